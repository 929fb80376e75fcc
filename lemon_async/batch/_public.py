"""The public names; `lemon_async.batch` imports them when the first one is used."""

from lemon_async.batch.batch import Batch
from lemon_async.batch.exports.exporting import Export, export
from lemon_async.batch.journal import Journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.outcome import BatchOutcome
from lemon_async.batch.plan import ModelPlan, Plan
from lemon_async.batch.records import Change, JournalRow, NewRow, SavedPicture, Spending
from lemon_async.batch.rows.expand import Matrix, expand
from lemon_async.batch.states import State, Transition
from lemon_async.batch.watching.summary import JournalSummary
from lemon_async.batch.watching.view import BatchView, watch_journal

__all__ = [
    "Batch",
    "BatchOutcome",
    "BatchView",
    "Change",
    "Export",
    "Journal",
    "JournalRow",
    "JournalSummary",
    "Matrix",
    "ModelPlan",
    "NewRow",
    "Plan",
    "SavedPicture",
    "Spending",
    "State",
    "Transition",
    "expand",
    "export",
    "open_journal",
    "watch_journal",
]

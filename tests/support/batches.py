"""Run batches, and look at what their journals hold."""

import attrs

from lemon_async.batch import Batch, open_journal

OPTIONS = {"model": "flux-pro", "size": "256x256", "stop_on": None}


@attrs.define
class Run:
    """What one run of a batch came to."""

    batch: Batch
    outcomes: list = attrs.field(factory=list)
    error: Exception | None = None

    @property
    def statuses(self):
        """The status of each row, by key."""
        return {outcome.key: str(outcome.status) for outcome in self.outcomes}

    @property
    def errors(self):
        """The type of the error of each row that has one, by key."""
        return {outcome.key: type(outcome.error).__name__ for outcome in self.outcomes if outcome.error}

    @property
    def counts(self):
        """The number of rows by state, without the states that have none."""
        return {str(state): count for state, count in self.batch.counts.items() if count}


def rows(number, **columns):
    return [{"id": f"r{index}", "prompt": f"prompt {index}", **columns} for index in range(number)]


def batch_of(session, folder, items=None, *, journal=None, **options):
    """Return a batch whose journal and pictures are in a folder."""
    keys = {} if items is None else {"key": "id"}
    save = str(folder / "out" / "{key}")
    return session.batch(journal or folder / "run.db", items, **{**OPTIONS, **keys, "save": save, **options})


async def run_batch(session, folder, items=None, **options):
    """Run a batch to its end."""
    run = Run(batch_of(session, folder, items, **options))
    try:
        async with run.batch as batch:
            async for outcome in batch:
                run.outcomes.append(outcome)
    except Exception as error:  # noqa: BLE001 - the tests look at it
        run.error = error
    return run


async def journal_rows(folder):
    """Return the rows of a journal, by key."""
    async with open_journal(folder / "run.db") as journal:
        return {row.key: row for row in await journal.rows()}

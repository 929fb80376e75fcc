"""The public names; `lemon_async` imports them when the first one is used."""

from lemon_async._api.requests import EditRequest, GenerateRequest, Source, VariationRequest
from lemon_async._display.contact_sheet import Sheet
from lemon_async._http.transport import Timeouts
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.map import Outcome, Outcomes
from lemon_async._tasks.progress import Progress
from lemon_async._tasks.stream import ImageStream, PartialImage
from lemon_async._tasks.submission_counts import Spent
from lemon_async._tasks.task import ImageTask
from lemon_async._version import __version__
from lemon_async.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    BadRequest,
    Conflict,
    ContractError,
    DownloadError,
    InsufficientBalance,
    LemonError,
    NotFound,
    PartlySaved,
    PayloadTooLarge,
    Problem,
    RateLimited,
    SaveError,
    ServerError,
    SessionMisuse,
    SubmissionUnknown,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimeout,
    TransportError,
)
from lemon_async.session import LemonSession
from lemon_async.sheet import sheet
from lemon_async.types import Model, StoredFile

__all__ = [
    "AccessDenied",
    "ApiError",
    "AuthenticationError",
    "BadRequest",
    "Conflict",
    "ContractError",
    "DownloadError",
    "EditRequest",
    "GenerateRequest",
    "Image",
    "ImageStream",
    "ImageTask",
    "Images",
    "InsufficientBalance",
    "LemonError",
    "LemonSession",
    "Model",
    "NotFound",
    "Outcome",
    "Outcomes",
    "PartialImage",
    "PartlySaved",
    "PayloadTooLarge",
    "PollPolicy",
    "Problem",
    "Progress",
    "RateLimited",
    "RetryPolicy",
    "SaveError",
    "ServerError",
    "SessionMisuse",
    "Sheet",
    "Source",
    "Spent",
    "StoredFile",
    "SubmissionUnknown",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskTimeout",
    "Timeouts",
    "TransportError",
    "VariationRequest",
    "__version__",
    "sheet",
]

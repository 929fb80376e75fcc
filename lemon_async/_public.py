"""The public names; `lemon_async` imports them when the first one is used."""

from lemon_async._version import __version__
from lemon_async.api.errors import (
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
from lemon_async.api.models import Model, StoredFile
from lemon_async.api.requests import EditRequest, GenerateRequest, Source, VariationRequest
from lemon_async.client.fanout import Outcome, Outcomes
from lemon_async.client.image import Image
from lemon_async.client.images import Images
from lemon_async.client.money import Spent
from lemon_async.client.progress import Progress
from lemon_async.client.session import LemonSession
from lemon_async.client.sheet import sheet
from lemon_async.client.stream import ImageStream, PartialImage
from lemon_async.client.task import ImageTask
from lemon_async.client.transport import Timeouts
from lemon_async.pace.retry import RetryPolicy
from lemon_async.pace.schedule import PollPolicy
from lemon_async.show.sheet import Sheet

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

"""The public names; `lemon_async` imports them when the first one is used."""

from lemon_async._http.transport import Timeouts
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.map import Outcomes
from lemon_async._tasks.outcome import Outcome
from lemon_async._tasks.stream import ImageStream, PartialImage
from lemon_async._tasks.task import ImageTask
from lemon_async._version import __version__
from lemon_async.errors import (
    ApiError,
    ContractError,
    DownloadError,
    LemonError,
    SaveError,
    SubmissionUnknown,
    TaskError,
    TaskTimeout,
    TransportError,
)
from lemon_async.requests import EditRequest, GenerateRequest, Source, VariationRequest
from lemon_async.session import LemonSession

__all__ = [
    "ApiError",
    "ContractError",
    "DownloadError",
    "EditRequest",
    "GenerateRequest",
    "Image",
    "ImageStream",
    "ImageTask",
    "Images",
    "LemonError",
    "LemonSession",
    "Outcome",
    "Outcomes",
    "PartialImage",
    "PollPolicy",
    "RetryPolicy",
    "SaveError",
    "Source",
    "SubmissionUnknown",
    "TaskError",
    "TaskTimeout",
    "Timeouts",
    "TransportError",
    "VariationRequest",
    "__version__",
]

"""What `--json` prints: a line for each picture, and one for each failure."""

from pathlib import Path
from typing import Any

from lemon_async._formats.safe_text import safe_str
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async.errors import LemonError, TaskError, TaskTimeout
from lemon_async.requests import Request

__all__ = ["failure_record", "model_of", "picture_record"]


def picture_record(image: Image, images: Images, request: Request | None, *, index: int, path: Path) -> dict[str, Any]:
    """Return what there is to know about a picture that was saved."""
    width, height = image.size or (None, None)
    return {
        "index": index,
        "prompt": _prompt(request) or images.prompt,
        "model": images.model or model_of(request),
        "path": _text(path),
        "format": image.format,
        "width": width,
        "height": height,
        "task_id": images.task_id,
        "seconds": None if images.seconds is None else round(images.seconds, 3),
        "url": image.url,
        "revised_prompt": image.revised_prompt,
        "usage": images.usage,
    }


def failure_record(
    error: Exception,
    request: Request | None,
    *,
    index: int,
    url: str | None = None,
) -> dict[str, Any]:
    """Return what there is to know about a job that failed, or a picture that could not be saved.

    Args:
        error: What happened.
        request: What was asked for.
        index: The place of the picture, or of the job's first.
        url: The link of a picture that is paid for.
    """
    code = getattr(error, "code", None)
    task = error.task if isinstance(error, LemonError) else None
    return {
        "index": index,
        "prompt": _prompt(request),
        "model": model_of(request),
        "error": {
            "type": type(error).__name__,
            "message": _text(_message(error)),
            "code": code if isinstance(code, str | int) else None,
        },
        "task_id": task.id if task is not None else None,
        "resume_token": getattr(error, "resume_token", None),
        "url": url,
    }


def _message(error: Exception) -> str:
    """Return what is told, without what a `TaskTimeout` advises to who programs in Python."""
    if isinstance(error, TaskTimeout):
        return TaskError.__str__(error).partition("; session.task")[0]
    return str(error) if isinstance(error, LemonError) else safe_str(error)


def _prompt(request: Request | None) -> str | None:
    return getattr(request, "prompt", None)


def model_of(request: Request | None) -> str | None:
    """Return the model that a request is for, which is the service's default if it names none."""
    return None if request is None else request.model or request.default_model


def _text(value: object) -> str:
    """Names of files can hold bytes that no JSON can."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")

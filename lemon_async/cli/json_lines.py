"""The lines of `--json`: one for each picture and one for each failure."""

from pathlib import Path
from typing import Any

from lemon_async import EditRequest, GenerateRequest, Image, Images, LemonError
from lemon_async.cli.console import describe

__all__ = ["Request", "error_record", "failure_record", "model_of", "picture_record", "text_of"]

Request = GenerateRequest | EditRequest


def picture_record(image: Image, images: Images, request: Request | None, *, index: int, path: Path) -> dict[str, Any]:
    """Return the facts about a picture that was saved."""
    width, height = image.size or (None, None)
    return {
        "index": index,
        "prompt": request.prompt if request else images.prompt,
        "model": images.model or model_of(request),
        "path": text_of(path),
        "format": image.format,
        "width": width,
        "height": height,
        "task_id": images.task_id,
        "seconds": None if images.seconds is None else round(images.seconds, 3),
        "url": image.url,
        "revised_prompt": image.revised_prompt,
        "usage": images.usage,
    }


def failure_record(error: Exception, request: Request | None, *, index: int, url: str | None = None) -> dict[str, Any]:
    """Return the facts about a job that failed, or a picture that could not be saved.

    Args:
        error: The failure.
        request: The request, if it is known.
        index: The number of the picture, or of the job's first.
        url: The link of a picture that is paid for.
    """
    task = error.task if isinstance(error, LemonError) else None
    return {
        "index": index,
        "prompt": request.prompt if request else None,
        "model": model_of(request),
        "error": error_record(error),
        "task_id": task.id if task is not None else None,
        "resume_token": getattr(error, "resume_token", None),
        "url": url,
    }


def error_record(error: Exception) -> dict[str, Any]:
    """Return the type, message and code of an error."""
    code = getattr(error, "code", None)
    return {
        "type": type(error).__name__,
        "message": text_of(describe(error)),
        "code": code if isinstance(code, str | int) else None,
    }


def model_of(request: Request | None) -> str | None:
    """Return the model of a request: the service's default if it names none."""
    return None if request is None else request.model or request.default_model


def text_of(value: object) -> str:
    """Return text for JSON, which cannot hold the undecodable bytes of file names."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")

"""The nouns of the service: what is asked for and what is said of it, as frozen data.

Requests are made by users and go out as JSON; snapshots are made by `wire` from what came in.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

import attrs

__all__ = ["Billing", "GenerateFields", "GenerateRequest", "ImageData", "TaskFault", "TaskSnapshot"]


class GenerateFields(TypedDict, total=False):
    """Fields of "Create image" beside the prompt; what is not given is not sent.

    Which model takes which field and value is told by `lemon_async.api.contracts`.
    """

    model: str
    """Model id, such as `flux-pro`; the server's default is `dall-e-3`."""
    n: int
    """Number of images, 1-10, model dependent; the server's default is 1."""
    size: str
    """`auto` or `WIDTHxHEIGHT` in pixels."""
    aspect_ratio: str
    """`WIDTH:HEIGHT`, such as `16:9`."""
    resolution: str
    """`1k`, `2k` or `4k`."""
    quality: str
    """`standard` or `hd` (DALL-E); `auto`, `low`, `medium` or `high` (GPT Image)."""
    style: str
    """`vivid` or `natural` (DALL-E 3)."""
    response_format: Literal["url", "b64_json"]
    """How inline images arrive; tasks always answer with URLs."""
    async_: bool
    """Sent as `async`: create a task first (gpt-image-2 and FLUX)."""
    background: str
    """`auto`, `transparent` or `opaque` (gpt-image-2)."""
    output_format: str
    """`png`, `jpeg` or `webp` (gpt-image-2)."""
    output_compression: int
    """Per cent, 0-100 (gpt-image-2)."""
    moderation: str
    """`auto` or `low` (gpt-image-2)."""
    partial_images: int
    """Number of previews while streaming (gpt-image-2)."""
    user: str
    """Your own id of the end user."""
    extra: Mapping[str, Any]
    """Fields this version has never heard of, sent as they are."""


@attrs.frozen
class GenerateRequest:
    """A request for images; goes wherever a prompt goes. `None` means: not sent.

    The fields are those of `GenerateFields`.
    """

    prompt: str
    model: str | None = attrs.field(default=None, kw_only=True)
    n: int | None = attrs.field(default=None, kw_only=True)
    size: str | None = attrs.field(default=None, kw_only=True)
    aspect_ratio: str | None = attrs.field(default=None, kw_only=True)
    resolution: str | None = attrs.field(default=None, kw_only=True)
    quality: str | None = attrs.field(default=None, kw_only=True)
    style: str | None = attrs.field(default=None, kw_only=True)
    response_format: Literal["url", "b64_json"] | None = attrs.field(default=None, kw_only=True)
    async_: bool | None = attrs.field(default=None, kw_only=True)
    background: str | None = attrs.field(default=None, kw_only=True)
    output_format: str | None = attrs.field(default=None, kw_only=True)
    output_compression: int | None = attrs.field(default=None, kw_only=True)
    moderation: str | None = attrs.field(default=None, kw_only=True)
    partial_images: int | None = attrs.field(default=None, kw_only=True)
    user: str | None = attrs.field(default=None, kw_only=True)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)


@attrs.frozen
class ImageData:
    """One entry of `data`: a link or base64 text, and the prompt that was really used."""

    url: str | None = None
    b64_json: str | None = attrs.field(default=None, repr=False)
    revised_prompt: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether there is an image behind it; a placeholder has an empty `url`."""
        return bool(self.url or self.b64_json)


@attrs.frozen
class TaskFault:
    """Why a task failed; the service sends a string or an object, and both read the same."""

    message: str
    code: str | None = None


@attrs.frozen
class Billing:
    """What the service said about money.

    Attributes:
        transaction_id: `billing_transaction_id` of a completed task.
        headers: Every `x-*` header of the answer, names in lower case; their names are not documented.
    """

    transaction_id: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class TaskSnapshot:
    """One answer about a job: from "Create image" or from "Get image status".

    An inline answer is the snapshot of a job that completed at once and has no `task_id`.

    Attributes:
        status: `pending`, `processing`, `completed` or `failed`; any other word counts as still pending.
        images: The usable entries of `data`.
        created: Unix seconds, as the service tells them.
        progress: As the service tells it; the scale is not documented.
        usage: Token counts of token-priced models, as they came.
    """

    status: str = ""
    task_id: str | None = None
    poll_url: str | None = None
    images: tuple[ImageData, ...] = ()
    created: int | None = None
    model: str | None = None
    progress: float | None = None
    fault: TaskFault | None = None
    is_cancelled: bool = False
    usage: Mapping[str, Any] | None = None
    billing: Billing = attrs.field(factory=Billing)

    @property
    def is_done(self) -> bool:
        """Whether the service will not change its mind."""
        return self.status in {"completed", "failed"}

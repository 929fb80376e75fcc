"""The options that request fields become, as a plain table: `--help` and completion import nothing else of the package.

A test compares the table with the rules of the library.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from typing import NamedTuple

__all__ = ["FIELDS", "Field", "complete_value", "fields_of", "models_for"]

_GENERATE_ONLY = ("dall-e-3", "gemini-2.0-flash-preview-image-generation")
_EDITED = (
    "dall-e-2", "gpt-image-2", "gemini-3-pro-image-preview", "nano-banana-pro", "nano-banana-2",
    "gemini-2.5-flash-image", "gemini-3.1-flash-image-preview", "nano-banana", "nano-banana-edit",
    "flux-pro", "flux-schnell", "midjourney", "ideogram-v3", "stable-diffusion-3",
    "grok-imagine-image", "grok-imagine-image-quality", "grok-imagine-image-pro",
)  # fmt: skip
_GPT = "gpt-image-2"


class Field(NamedTuple):
    """An option that becomes a field of a request.

    Attributes:
        name: What the library calls the field.
        help: What the values leave open, and the models that have the field, if only some have.
        kind: The type of its value.
        values: Its values by model, where they are a closed list; a key may be a pattern, and `*` is any other model.
    """

    name: str
    help: str
    kind: type = str
    values: Mapping[str, tuple[str, ...]] = {}

    @property
    def flag(self) -> str:
        """What the user types."""
        return "--" + self.name.rstrip("_").replace("_", "-")

    def full_help(self, operation: str) -> str:
        """Return the help, with the values of models that do an operation."""
        models: dict[str, list[str]] = {}
        for model, values in self.values.items():
            if operation == "generate" or model not in _GENERATE_ONLY:
                models.setdefault(", ".join(values), []).append(model)
        if list(models.values()) == [["*"]]:
            lists = [*models]
        else:
            lists = [f"{values} ({', '.join(names)})".replace("(*)", "(others)") for values, names in models.items()]
        return f"{': '.join(filter(None, [self.help, '; '.join(lists)]))}."


FIELDS = (
    Field("n", "Number of images, 1 to 10", int),
    Field(
        "size",
        "WIDTHxHEIGHT, such as 1024x1024, or auto; some models take only",
        values={
            "dall-e-3": ("1024x1024", "1792x1024", "1024x1792"),
            "dall-e-2": ("256x256", "512x512", "1024x1024"),
        },
    ),
    Field("aspect_ratio", "WIDTH:HEIGHT, such as 16:9; not for dall-e-2, dall-e-3 and gpt-image-2"),
    Field("resolution", "", values={"grok-imagine-image*": ("1k", "2k"), "*": ("1k", "2k", "4k")}),
    Field(
        "quality",
        "",
        values={
            "dall-e-3": ("standard", "hd"),
            "dall-e-2": ("standard", "hd"),
            _GPT: ("auto", "low", "medium", "high"),
        },
    ),
    Field("style", "", values={"dall-e-3": ("vivid", "natural")}),
    Field("response_format", "How inline images arrive", values={"*": ("url", "b64_json")}),
    Field("async_", "Create a task instead of answering inline (gpt-image-2, flux-*)", bool),
    Field("background", "", values={_GPT: ("auto", "transparent", "opaque")}),
    Field("output_format", "", values={_GPT: ("png", "jpeg", "webp")}),
    Field("output_compression", "Per cent, 0 to 100 (gpt-image-2)", int),
    Field("compression", "The service's other name for --output-compression (gpt-image-2)", int),
    Field("moderation", "", values={_GPT: ("auto", "low")}),
    Field("partial_images", "Number of previews of a stream, 0 to 3 (gpt-image-2)", int),
    Field("user", "Your own id of the end user"),
)


def fields_of(operation: str) -> Iterator[Field]:
    """Yield the fields of an operation, `generate` or `edit`."""
    return (field for field in FIELDS if operation == "generate" or field.name != "style")


def models_for(operation: str) -> tuple[str, ...]:
    """Return the documented models that do an operation."""
    return _EDITED if operation == "edit" else (*_GENERATE_ONLY, *_EDITED)


def complete_value(field: Field, model: str | None, operation: str) -> tuple[str, ...]:
    """Return the closed list of values of a field: that of the model, or those of all models if none is named."""
    if model is None:
        lists = (values for name, values in field.values.items() if name in {"*", *models_for(operation)})
        return tuple(dict.fromkeys(chain.from_iterable(lists)))
    return next((values for name, values in field.values.items() if fnmatchcase(model, name)), ())

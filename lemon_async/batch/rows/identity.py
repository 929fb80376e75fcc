"""What identifies the rows of a source. Under other keys, a journal would buy its rows again."""

from collections.abc import Mapping
from typing import Any

from lemon_async.batch.rows.builder import KeyOption
from lemon_async.batch.rows.fields import shown
from lemon_async.types import Problem

__all__ = ["IDENTITY", "identity_of", "identity_problem"]

IDENTITY = "identity"
"""The name of the note."""

_CONTENT = "their content"
_FUNCTION = "a function"
_MODEL = ", with the model"


def identity_of(key: KeyOption, fields: Mapping[str, Any]) -> str:
    """Return in words what identifies rows.

    Args:
        key: See `KeyOption`.
        fields: The defaults of their fields.
    """
    if key is None:
        return _CONTENT
    model = fields.get("model")
    own = _FUNCTION if callable(key) else f"the column {shown(key)}"
    return own if model is None or isinstance(model, str) else own + _MODEL


def identity_problem(known: str | None, given: str) -> Problem | None:
    """Return what is wrong if the rows of a journal were identified by something else.

    A function may return what is in the column.
    """
    if known is None or known == given:
        return None
    bare = known.removesuffix(_MODEL), given.removesuffix(_MODEL)
    has_model = known.endswith(_MODEL), given.endswith(_MODEL)
    if _FUNCTION in bare and _CONTENT not in bare and has_model[0] is has_model[1]:
        return None
    name = "model" if bare[0] == bare[1] else "key"
    words = f"the rows of the journal are identified by {known}, and these are by {given}, so that all would be new"
    return Problem(name, f"{words} and be bought again; give it as before, or use another journal")

"""Faults as JSON: `[{"route": "poll", "actions": [{"type": "Status", "status": 502}], "times": 3}]`.

The names are those of the actions and of the arguments of `Fault`, so everything follows from their annotations. JSON
has no bytes and no tuples: the content of a `Body` is text or `{"base64": "..."}`, and lists stand for tuples.
"""

import base64
import binascii
import math
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import orjson

from lemon_async.emulator.actions import Action, Answer
from lemon_async.emulator.http.faults import ROUTES, Fault
from lemon_async.emulator.service_errors import excerpt

ACTIONS: Mapping[str, type[Action]] = {kind.__name__: kind for kind in get_args(Action)}

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_BASE64 = "base64"
_MANY_PROBLEMS = 100
# Annotations of the constructor, where it takes more than it keeps.
_MATCH: dict[str, Any] = {
    name: attribute.type
    for name, attribute in attrs.fields_dict(attrs.resolve_types(Fault)).items()
    if attribute.init and name not in {"route", "actions"}
}
_MATCH["nth"] = tuple[int, ...] | int | None


class InvalidFaults(ValueError):
    """Faults cannot be read; `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("; ".join(self.problems))


def parse_faults(text: str | bytes) -> list[Fault]:
    """Read the faults of a JSON list.

    Raises:
        InvalidFaults: It is not JSON, or some faults are wrong; all problems are named with their places.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidFaults([f"this is not valid JSON: {error}"]) from None
    if not isinstance(value, list):
        raise InvalidFaults(['must be a list of faults: [{"route": "poll", "actions": [...]}]'])
    problems: list[str] = []
    faults: list[Fault | None] = []
    for index, entry in enumerate(value):
        if len(problems) >= _MANY_PROBLEMS:  # another kind of file, perhaps a large one
            problems.append(f"faults[{index}] to faults[{len(value) - 1}] were not read")
            break
        faults.append(_read_fault(entry, f"faults[{index}]", problems))
    if problems:
        raise InvalidFaults(problems)
    return [fault for fault in faults if fault is not None]


def parse_fault(value: Any) -> Fault:
    """Make a fault of a JSON object.

    Raises:
        InvalidFaults: With everything that is wrong.
    """
    problems: list[str] = []
    fault = _read_fault(value, "fault", problems)
    if fault is None:
        raise InvalidFaults(problems)
    return fault


def fault_json(fault: Fault) -> dict[str, Any]:
    """Return what `parse_fault` reads; defaults are left out."""
    actions = [{"type": type(action).__name__, **_given(action)} for action in fault.actions]
    match = {name: value for name, value in _given(fault).items() if name in _MATCH}
    return {"route": fault.route, "actions": actions, **match}


def _given(value: Any) -> dict[str, Any]:
    """Return the fields of an object that differ from their defaults."""
    fields = {attribute.name: attribute for attribute in attrs.fields(type(value)) if attribute.init}
    return {
        name: _plain(getattr(value, name))
        for name, attribute in fields.items()
        if getattr(value, name) != _default_of(attribute)
    }


def _default_of(attribute: Any) -> Any:
    default = attribute.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]  # a class


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {_BASE64: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple | list | range | set | frozenset) else value


# Reading


def _read_fault(value: Any, place: str, problems: list[str]) -> Fault | None:
    if not isinstance(value, dict):
        problems.append(f'{place}: must be an object such as {{"route": "poll", "actions": [...]}}')
        return None
    before = len(problems)
    problems.extend(_unknown(value, {"route", "actions", *_MATCH}, place))
    if value.get("route") not in ROUTES:
        problems.append(f"{place}.route: must be one of {', '.join(ROUTES)}{_instead(value, 'route')}")
    actions = _read_actions(value.get("actions"), f"{place}.actions", problems)
    match = {name: _read(value[name], _MATCH[name], f"{place}.{name}", problems) for name in _MATCH if name in value}
    problems.extend(_bounds(match, place))
    if len(problems) > before:
        return None
    try:
        return Fault(value["route"], tuple(actions), **match)
    except ValueError as error:
        problems.append(f"{place}: {error}")
        return None


def _bounds(match: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield what an argument of the right type cannot be; a program may pass it, but a file means something else."""
    nth, times, probability = match.get("nth"), match.get("times"), match.get("probability")
    numbers = (nth,) if isinstance(nth, int) else nth or ()
    if any(number < 1 for number in numbers):
        yield f"{place}.nth: counts from 1"
    if times is not None and times < 1:
        yield f"{place}.times: must be at least 1"
    if probability is not None and not 0 <= probability <= 1:
        yield f"{place}.probability: must be from 0 to 1"


def _read_actions(value: Any, place: str, problems: list[str]) -> list[Action]:
    if not isinstance(value, list) or not value:
        problems.append(f'{place}: must be a list of actions such as {{"type": "Status", "status": 502}}')
        return []
    actions = [_read_action(entry, f"{place}[{index}]", problems) for index, entry in enumerate(value)]
    return [action for action in actions if action is not None]


def _read_action(value: Any, place: str, problems: list[str]) -> Action | None:
    kind = ACTIONS.get(value["type"]) if isinstance(value, dict) and isinstance(value.get("type"), str) else None
    if kind is None:
        instead = _instead(value, "type") if isinstance(value, dict) else ""
        problems.append(f"{place}.type: must be one of {', '.join(ACTIONS)}{instead}")
        return None
    before = len(problems)
    fields = attrs.fields_dict(attrs.resolve_types(kind))
    problems.extend(_unknown(value, {"type", *fields}, place))
    for name, attribute in fields.items():
        if attribute.default is attrs.NOTHING and name not in value:
            problems.append(f"{place}.{name}: is required")
    given: dict[str, Any] = {
        name: _read(value[name], fields[name].type, f"{place}.{name}", problems) for name in fields if name in value
    }
    if len(problems) > before:
        return None
    try:
        return Answer(**given["fields"]) if kind is Answer else kind(**given)
    except (TypeError, ValueError) as error:
        problems.append(f"{place}: {error.args[0] if error.args else error}")
        return None


def _unknown(value: Mapping[str, Any], known: set[str], place: str) -> Iterator[str]:
    for name in value:
        if name not in known:
            yield f"{place}.{excerpt(name)}: is unknown; known are {', '.join(sorted(known))}"


def _instead(value: Mapping[str, Any], name: str) -> str:
    return f", not {_shown(value[name])}" if name in value else ""


def _shown(value: Any) -> str:
    try:
        return excerpt(orjson.dumps(value).decode())
    except orjson.JSONEncodeError:  # it was read, but is too deep to be written
        return "that"


def _read(value: Any, kind: Any, place: str, problems: list[str]) -> Any:
    """Return a value of an annotated type; if it is of another one, that is a problem, and the value is None."""
    if not _fits(value, kind):
        problems.append(f"{place}: must be {_describe(kind)}, not {_shown(value)}")
        return None
    if kind is bytes:
        try:
            return value.encode() if isinstance(value, str) else base64.b64decode(value[_BASE64], validate=True)
        except binascii.Error as error:
            problems.append(f"{place}.{_BASE64}: {error}")
    return tuple(value) if isinstance(value, list) and kind != Any else value


def _fits(value: Any, kind: Any) -> bool:  # noqa: PLR0911 - a table of types
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if kind is bytes:
        return isinstance(value, str) or (
            isinstance(value, dict) and list(value) == [_BASE64] and _fits(value[_BASE64], str)
        )
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(entry, args[1]) for entry in value.values())
    if origin is tuple and Ellipsis not in args:
        return isinstance(value, list) and len(value) == len(args) and all(map(_fits, value, args))
    if origin is not None:  # lists of one type
        return isinstance(value, list) and all(_fits(entry, args[0]) for entry in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _describe(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_describe(arg) for arg in args)
    if origin is Literal:
        return f"one of {', '.join(args)}"
    if kind is bytes:
        return f'text or {{"{_BASE64}": "..."}}'
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "an object" if args[1] is Any else f"an object whose values are {_describe(args[1])}"
    if origin is tuple and Ellipsis not in args:
        return f"a list of {len(args)} numbers"
    return (
        f"a list, each {_describe(args[0])}"
        if origin is not None and args[0] is not Any
        else _NAMES.get(kind, "a list")
    )

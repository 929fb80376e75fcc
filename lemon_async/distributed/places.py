"""Say in an error on which machine it happened."""

import os
import platform

import attrs

from lemon_async.errors import ContractError, LemonError

__all__ = ["at_place", "place"]


def place() -> str:
    """Return the name of this machine, and the id of this process."""
    return f"{platform.node() or 'a machine without a name'}, process {os.getpid()}"


def at_place(error: Exception, where: str) -> Exception:
    """Return an error of the same kind whose message names the place; one of another library gets a note."""
    words = f" (worker on {where})"
    if isinstance(error, ContractError):
        problems = [attrs.evolve(problem, message=f"{problem.message}{words}") for problem in error.problems]
        return _with_cause(ContractError(problems=tuple(problems), undone=error.undone), error)
    message = getattr(error, "message", None)
    if isinstance(error, LemonError) and isinstance(message, str):
        error.message = f"{message}{words}"  # type: ignore[attr-defined]  # those of a message have one
        error.args = (str(error),)
    else:
        error.add_note(words.strip())
    return error


def _with_cause(twin: Exception, error: Exception) -> Exception:
    twin.__cause__ = error.__cause__
    return twin

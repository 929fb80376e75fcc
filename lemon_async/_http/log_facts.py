"""What log records say about the job that they concern, besides their message.

Formatters show `extra` fields, in JSON for example. No record has the prompt or the key. The library adds no handler,
not even a `NullHandler`: Python prints the warnings of a program that configures no logging, and ours concern money.

    level      used for
    ERROR      a bug of this library, or of a function of the program; a row that was bought twice
    WARNING    money or pictures may be lost, or the service does what is not documented; a human should look
    INFO       what was handled and is expected to succeed, such as a request that is sent again
    DEBUG      details
"""

from typing import Any

__all__ = ["about_job"]


def about_job(*, task_id: str | None = None, model: str | None = None, attempt: int | None = None) -> dict[str, Any]:
    """Return the `extra` of a record about one job; every such record has all the fields.

    Args:
        task_id: The service's id of the task; `None` if it is unknown.
        model: The model; `None` if it is unknown.
        attempt: The number of the request's attempt, from 1; of a poll, how many have failed in a row. `None` for
            records that are about no single request.
    """
    return {"task_id": task_id, "model": model, "attempt": attempt}

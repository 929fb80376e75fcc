"""Submissions through a transport with scripted responses."""

import asyncio

import orjson

from lemon_async import GenerateRequest, RetryPolicy
from lemon_async._api.response import Response
from lemon_async._api.validation import encode
from lemon_async._http.attempt import NoResponse
from lemon_async._tasks.submission import PreparedRequest, Submissions
from lemon_async._uploads.preparation import Json


def order_of(request):
    content = encode(request)
    return PreparedRequest(request, Json("/v1/images/generations", content))


REQUEST = GenerateRequest("a cat", model="flux-pro")
ORDER = order_of(REQUEST)
PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.005)
ONCE = RetryPolicy(max_elapsed_s=0)


def answer(status=200, *, body=None, text=None, **headers):
    content = orjson.dumps(body) if text is None else text
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def refusal(status, **hints):
    return answer(status, body={"error": {"message": "No.", "code": "no" if status < 500 else "server_error", **hints}})


INLINE = answer(body={"created": 1, "data": [{"url": "https://cdn.test/1.png"}]})
TASK = answer(body={"task_id": "ldtask_1", "status": "pending", "poll_url": "/v1/images/generations/ldtask_1"})
NOT_SENT = NoResponse("Connect call failed", was_sent=False)
SENT = NoResponse("Server disconnected", was_sent=True)


class ScriptedTransport:
    """A transport with scripted responses; the last one is repeated."""

    base_url = "https://api.test"
    is_closed = False

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.sent = []
        self.patience = []

    async def pause(self, seconds):
        await asyncio.sleep(seconds)

    async def acquire(self, patience_s):
        self.patience.append(patience_s)

    async def submit(self, payload):
        outcome = self.outcomes[min(len(self.sent), len(self.outcomes) - 1)]
        self.sent.append(payload)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Response) else await outcome()


def submissions_of(*outcomes, policy=PATIENT, limit=10):
    transport = ScriptedTransport(*outcomes)
    return transport, Submissions(transport, policy, limit=limit)


DOUBTFUL = {
    "no answer": SENT,
    "no answer, but a head": NoResponse("the answer is larger than 1 bytes", was_sent=True, status=200),
    "html": answer(502, text=b"<html><title>502 Bad Gateway</title>"),
    "empty": answer(500, text=b""),
    "truncated": answer(503, text=b'{"error": {"mess'),
    "success without a shape": answer(body={"ok": True}),
    "placeholder only": answer(body={"data": [{"url": ""}]}),
    "unreadable success": answer(200, text=b"OK"),
    "redirect": answer(307, text=b"", location="/elsewhere"),
    "refusal in strange words": answer(429, body={"detail": "no"}),
    "success with an error": refusal(200),
}


def cancelled_as_a_transport_does(*, was_sent):
    """Wait forever; a cancellation gets the cause that a transport sets."""

    async def wait():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            cancelled.__cause__ = NoResponse("cancelled while waiting for the response", was_sent=was_sent)
            raise

    return wait

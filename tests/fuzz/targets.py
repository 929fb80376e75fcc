"""Fuzz targets: one for every parser of untrusted input. A target takes any bytes, and fails by an exception.

What holds for all: nothing but the documented exceptions escapes, the result does not depend on where pieces begin, no
text has a lone surrogate, the key is in nothing that comes out, and the time is bounded.
"""

import base64
import gzip
import math
import re
import time
import zlib
from functools import partial, wraps
from urllib.parse import urlsplit

import attrs
import orjson

from lemon_async._api.error_responses import Failure, api_error
from lemon_async._api.job_responses import (
    Accepted,
    PollFailure,
    PollSuccess,
    Refused,
    UnknownOutcome,
    read_poll,
    read_submission,
)
from lemon_async._api.models_and_files import read_file, read_files, read_model, read_models
from lemon_async._api.response import MAX_BODY_BYTES, Response, Unreadable, read_rate_headers, retry_after_s
from lemon_async._api.resume_token import parse_reference
from lemon_async._api.stream_events import EventSplitter, Failed, Final, Partial, Unclear, read_event
from lemon_async._api.urls import find_link_fault, find_remote_fault, parse_base_url, poll_path, redact
from lemon_async._formats.base64_json import Base64Extractor, Base64Text, decode_base64
from lemon_async._formats.pictures import StreamValidator, find_picture_fault, sniff
from lemon_async._formats.provenance import Provenance, embed, xmp_packet
from lemon_async._http.attempt import BodyReader
from lemon_async._images.naming import Template
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async.errors import ApiError, ContractError

KEY = "sk-fuzz-0123456789"
TASK_ID = "ldtask_1"
ORIGIN = "https://api.lemondata.cc"
STATUSES = (200, 202, 302, 400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504)
SECONDS = 1.0
"""Of CPU, for one input of a few kilobytes in instrumented code."""
LONG_BYTES = 256

TARGETS = {}


def target(function):
    """Register a target, and bound its time."""

    @wraps(function)
    def timed(data):
        started = time.thread_time()
        function(data)
        assert time.thread_time() - started < SECONDS, "too slow"

    TARGETS[function.__name__] = timed
    return timed


def mask(text):
    return text.replace(KEY, "***")


def check_clean(value):
    """Every text can be encoded, none has the key, and every number is finite."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            part.encode()
            assert KEY not in part
        elif isinstance(part, float):
            assert math.isfinite(part)
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list | tuple):
            waiting += part
        elif attrs.has(type(part)):
            waiting += [getattr(part, field.name) for field in attrs.fields(type(part)) if field.repr]


def check_line(text):
    assert text
    assert text.isprintable()
    check_clean(text)


def split(data, number):
    """Cut bytes at places that depend on a number; by 0 into single ones."""
    size = number % 23 + 1
    first = number % 7
    return [data[:first], *(data[at : at + size] for at in range(first, len(data), size))]


def packed_of(data):
    """Return a status, headers and a packed body; the first two bytes choose the status and the content coding."""
    first, coding, body = data[:1], data[1:2], data[2:]
    status = STATUSES[ord(first or b"\0") % len(STATUSES)]
    pack, name = {
        b"g": (partial(gzip.compress, mtime=0), "gzip"),
        b"d": (zlib.compress, "deflate"),
        b"G": (bytes, "gzip"),
        b"b": (bytes, "br"),
    }.get(coding, (bytes, "identity"))
    return status, {"content-encoding": name}, pack(body)


def response_of(data):
    """Return the response that `BodyReader` makes of `packed_of(data)`."""
    status, headers, body = packed_of(data)
    reader = BodyReader(headers, MAX_BODY_BYTES)
    list(reader.feed(body))
    return Response(status, headers, mask=mask, **reader.end())


@target
def response(data):
    """`Response`: JSON or `Unreadable`, one line of summary, an error with clean hints."""
    answer = response_of(data)
    check_line(answer.summary())
    try:
        check_clean(answer.json())
    except Unreadable as fault:
        check_line(str(fault))
    error = api_error(answer)
    check_line(str(error))
    check_clean(list(vars(error).values()))
    for read in (read_models, read_model, read_files, read_file):
        try:
            read(answer)
        except ApiError as refusal:
            check_line(str(refusal))


@target
def body_reader(data):
    """`BodyReader`: the same body wherever its pieces begin."""
    _, headers, body = packed_of(data)
    bodies = []
    for pieces in ([body], split(body, len(data)), split(body, 0)):
        reader = BodyReader(headers, MAX_BODY_BYTES)
        for piece in pieces:
            list(reader.feed(piece))
        bodies.append(reader.end())
    assert all(body == bodies[0] for body in bodies)


def extracted(pieces):
    """Return a document with each picture's bytes, `None` for a faulty one, in the place of its random name."""
    extractor = Base64Extractor(LONG_BYTES)
    for piece in pieces:
        extractor.feed(piece)
    whole = extractor.end()
    skeleton = whole.skeleton
    for name, inline in whole.pictures.items():
        skeleton = skeleton.replace(name.encode(), b"%r" % inline.content)
    return skeleton, whole.fault


@target
def extractor(data):
    """`Lifter`: the same skeleton and pictures wherever the pieces begin; runs of `~` are long base64."""
    document = re.sub(b"~+", lambda run: b"QUJD" * 64 * len(run[0][:8]), data)
    assert (
        extracted([document]) == extracted(split(document, len(data))) == extracted(split(document, len(data) * 7 + 3))
    )


def events_of(pieces):
    splitter = EventSplitter(mask=mask)
    events = []
    try:
        for piece in pieces:
            events += splitter.feed(piece)
        events += splitter.end()
    except Unreadable as fault:
        check_line(str(fault))
    return events


@target
def events(data):
    """`EventSplitter` and `read_event`: the same events wherever the pieces begin, each with a clean reading."""
    found = events_of([data])
    assert found == events_of(split(data, len(data))) == events_of(split(data, 0))
    for event in found:
        match read_event(event):
            case Partial(image) | Final(image):
                assert image.is_usable
                check_clean([image.url, image.revised_prompt])
            case Failed(fault):
                check_line(fault.message)
            case Unclear(reason):
                check_line(reason)
            case reading:
                assert reading is None


@target
def submission(data):
    """`read_submission`: accepted with a task or images, refused with a status that refuses, or garbled."""
    answer = response_of(data)
    match read_submission(answer):
        case Accepted(snapshot):
            assert answer.is_success
            assert snapshot.task_id or snapshot.images
            check_clean(snapshot)
        case Refused(error):
            assert error.status >= 400
            check_line(str(error))
        case UnknownOutcome(reason, error):
            check_line(reason)
            check_line(str(error))


@target
def poll(data):
    """`read_poll`: only an answer that is about the task, or has a picture, ends it."""
    answer = response_of(data)
    match read_poll(answer, TASK_ID):
        case PollSuccess(snapshot, wait_s):
            assert answer.is_success
            assert wait_s is None
            assert snapshot.status != "failed" or snapshot.is_cancelled or TASK_ID.encode() in spelled(answer)
            check_clean(snapshot)
        case PollFailure(failure, reason, error):
            assert failure is Failure.TRANSIENT or error.status in {401, 403, 404}
            check_line(str(error))
            check_line(reason)


def spelled(answer):
    """Return the text of a response in the forms in which it may contain an id."""
    return re.sub(rb"%([0-9a-f]{2})", lambda code: bytes.fromhex(code[1].decode()), orjson.dumps(answer.json())).lower()


@target
def pictures(data):
    """`StreamValidator`: one verdict wherever the pieces begin."""
    facts = sniff(data)
    verdict = find_picture_fault(data)
    for pieces in ([data], split(data, len(data)), split(data, 0)):
        validator = StreamValidator()
        for piece in pieces:
            validator.feed(piece)
        assert validator.end() == verdict
        assert validator.facts == facts


@target
def provenance(data):
    """`embed`: a whole picture that is larger by one packet, in which it is found again, or nothing."""
    packet = xmp_packet(Provenance(prompt=data[:99].decode("utf-8", "replace"), model="flux-pro"))
    packet.decode()
    after = embed(data, packet)
    if after is not None:
        assert find_picture_fault(after) is None
        assert len(after) - len(data) < len(packet) + LONG_BYTES
        assert packet in after
        assert embed(after, packet) is after


@target
def base64_text(data):
    """`Base64Text`: the same bytes wherever the pieces begin, and none of a text that is not base64."""
    contents = []
    for pieces in ([data], split(data, len(data)), split(data, len(data) + 5)):
        text = Base64Text()
        for piece in pieces:
            if not text.take_plain(memoryview(piece)):
                text.take(piece)
        contents.append(text.end().content)
    assert all(content == contents[0] for content in contents)
    assert data.isascii() is False or decode_base64(data.decode()).content == contents[0]
    assert base64.b64encode(contents[0] or b"") is not None


@target
def urls(data):
    """Addresses: a poll stays at the origin, a link is fetched from a public host, and the rest is a `ValueError`."""
    text = data.decode("utf-8", "replace")
    try:
        origin = parse_base_url(text)
    except ValueError as fault:
        check_line(str(fault))
    else:
        assert parse_base_url(origin) == origin
    try:
        path, _ = poll_path(ORIGIN, text[:8], text)
    except ValueError as fault:
        check_line(str(fault))
    else:
        assert urlsplit(ORIGIN + path).netloc == urlsplit(ORIGIN).netloc
        assert not {"\\", "#", " ", "\r", "\n"} & set(path)
    if find_link_fault(text, allow_loopback=False) is None:
        assert text.startswith(("https:", "HTTPS:")) or text[:6].lower() == "https:"
    find_link_fault(text, allow_loopback=True)
    find_remote_fault(text)
    assert redact(text).isprintable()
    assert len(redact(text)) <= 200


@target
def rate_headers(data):
    """`Retry-After` and `X-RateLimit-*`: finite, not negative, or nothing."""
    text = data.decode("latin-1")
    seconds = retry_after_s(text, received_at=1.7e9)
    assert seconds is None or 0 <= seconds < math.inf
    parts = [*text.split("\n"), "", "", ""][:3]
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    check_clean(read_rate_headers(dict(zip(names, parts, strict=True)), received_at=1.7e9))


@target
def tokens(data):
    """Resume tokens: a reference that makes the same token again, or a `ContractError`."""
    text = data.decode("utf-8", "replace")
    packed = "lemon1." + base64.urlsafe_b64encode(data).decode().rstrip("=")
    for word in (text, packed):
        try:
            reference = parse_reference(word)
        except ContractError:
            continue
        assert parse_reference(reference.token()) == reference


@target
def durations(data):
    """Learned durations: an export that restores to itself, or a `ContractError`."""
    try:
        state = orjson.loads(data)
    except ValueError:
        return
    try:
        known = LearnedDurations.restore(state)
    except ContractError:
        return
    exported = orjson.loads(orjson.dumps(known.export()))
    assert LearnedDurations.restore(exported).export() == known.export()
    for model in [*state.get("models", {}), None]:
        assert 0 < known.median_s(model) < math.inf
        assert known.due_s(model, 3.0, 1.0) > 0


@target
def templates(data):
    """Names of files: a template that can be filled, or a `ContractError`."""
    text = data.decode("utf-8", "replace")
    try:
        template = Template(text)
    except ContractError:
        return
    for words in ("a cat", "../../etc/passwd", "\x1b[2J", "x" * 500, ""):
        name = template.fill(slug=words, model=words, task_id=words, index=3, created=-1, width=10**9, format="png")
        assert name not in {"", ".", ".."}
        assert "\0" not in name

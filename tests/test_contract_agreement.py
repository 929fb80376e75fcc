"""Client and emulator implement the same documentation without sharing code; here they are compared."""

import asyncio
import io
import itertools
import json
import struct
import zlib
from contextlib import nullcontext

import attrs
import PIL.Image
import pytest

from lemon_async import EditRequest, GenerateRequest, LemonSession, VariationRequest
from lemon_async._api.families import FAMILIES
from lemon_async._api.validation import check, encode
from lemon_async._uploads.preparation import glance_at_sources
from lemon_async.emulator import Emulator
from lemon_async.emulator.http.public_urls import ForbiddenUrl, check_url
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service.model_families import DOCUMENTED_FIELDS, MODEL_IDS
from lemon_async.emulator.service.model_families import FAMILIES as EMULATOR_FAMILIES
from lemon_async.emulator.service_errors import ServiceError
from lemon_async.errors import BadRequest, PayloadTooLarge

MODELS = sorted(
    {id_.replace("*", "dev" if id_.startswith("flux") else "x") for family in FAMILIES for id_ in family.ids}
    | set(MODEL_IDS)
)
VALUES = {
    "n": [1, 10, 11, 0, True],
    "size": ["auto", "256x256", "1024x1024", "1792x1024", "1536x1024", "1000x1000", "3840x2160", "3856x2160", "big"],
    "aspect_ratio": ["1:1", "16:9", "2:3", "wide"],
    "resolution": ["1k", "2k", "4k", "8k"],
    "quality": ["standard", "hd", "auto", "low", "medium", "high"],
    "style": ["vivid", "natural"],
    "response_format": ["url", "b64_json", "png"],
    "async_": [True, False, "yes"],
    "background": ["transparent", "opaque", "auto", "x"],
    "output_format": ["png", "jpeg", "webp", "gif"],
    "output_compression": [0, 100, 101],
    "moderation": ["auto", "low", "none"],
    "partial_images": [0, 3, 4],
    "compression": [0, 101],
    "user": ["u-1", 7],
}
ADDRESS = "https://pictures.example/cat.png"
KINDS = {
    "generate": (GenerateRequest, {"prompt": "a cat"}),
    "edit": (EditRequest, {"prompt": "a cat", "image": ADDRESS}),
    "variation": (VariationRequest, {"image": b""}),
}


def fields_of(operation):
    """Return the fields of `VALUES` that a kind of request has."""
    return [name for name in VALUES if name in attrs.fields_dict(KINDS[operation][0])]


def client_accepts(request, *, is_stream=False):
    """Return whether the client would send this request, if its pictures are valid."""
    return not [problem for problem in check(request, is_stream=is_stream) if not problem.field.startswith("image")]


def emulator_accepts(request, *, is_stream=False):
    """Return whether the emulator would accept this request, if its pictures are valid."""
    body = json.loads(encode(request, is_stream=is_stream))
    try:
        parse_job(body, operation=request.operation, default_model=request.default_model)
    except ServiceError:
        return False
    return True


def disagreements(operation, model, choices, *, is_stream=False):
    """Return the choices of field values that only one side accepts, and which one does."""
    kind, base = KINDS[operation]
    found = []
    for fields in choices:
        request = kind(**base, model=model, **fields)
        client, emulator = (side(request, is_stream=is_stream) for side in (client_accepts, emulator_accepts))
        if client != emulator:
            found.append((fields, "accepted by the client only" if client else "accepted by the emulator only"))
    return found


def test_every_field_of_either_side_is_compared():
    """A new field needs values here."""
    names = {name.rstrip("_") for name in VALUES}
    assert names >= DOCUMENTED_FIELDS - {"input_fidelity"}  # which the gateway removes and the client never sends
    assert names >= {name for family in FAMILIES for name in family.fields} - {"prompt", "model", "async_"}


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize("model", [*MODELS, None])
def test_both_sides_agree_on_every_family_and_value(operation, model):
    """The client sends what the emulator accepts and nothing else, inline or streamed."""
    choices = [{}, *({name: value} for name in fields_of(operation) for value in VALUES[name])]
    for is_stream in (False, True):
        assert disagreements(operation, model, choices, is_stream=is_stream) == [], f"stream: {is_stream}"


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize("model", [family.ids[0] for family in EMULATOR_FAMILIES])
def test_both_sides_agree_on_pairs_of_fields(operation, model):
    """Fields that are valid alone are valid together; only the client refuses both names of the compression."""
    choices = [
        {first: VALUES[first][0], second: VALUES[second][0]}
        for first, second in itertools.combinations(fields_of(operation), 2)
        if {first, second} != {"compression", "output_compression"}
    ]
    assert disagreements(operation, model, choices) == []


HERE = [
    *("127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "0.0.0.0", "0"),
    *("localhost", "localhost.", "LOCALHOST", "a.localhost", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]"),
    *("[::ffff:7f00:1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "user@127.0.0.1"),
    *("pics.example.com@127.0.0.1", "%31%32%37.0.0.1", "127.0.0.1#", "127.0.0.1\\@pics.example.com"),
]
HOSTILE = [
    *(f"http://{host}/" for host in HERE),
    *("http://10.1.2.3/", "http://100.64.1.1/", "http://169.254.169.254/latest", "http://172.16.0.1/"),
    *("http://192.168.1.1/", "http://192.0.0.192/", "http://198.18.0.1/", "http://203.0.113.1/", "http://224.0.0.1/"),
    *("http://255.255.255.255/", "http://[2001:db8::1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/"),
    *("http://[fd00::1]/", "http://[ff02::1]/", "http://[2001:0:7f00:1::]/", "http://nas.local/", "http://intranet/"),
    *("http://metadata.google.internal/", "http://router.lan/", "http://256.1.1.1/", "http://1.2.3.4.5/"),
    *("http://\uff11\uff12\uff17.0.0.1/", "http://127\u30020\u30020\u30021/", "http://\u2460\u2461\u2466.0.0.1/"),
    *("file:///etc/passwd", "ftp://pics.example.com/a", "gopher://pics.example.com/", "https:///a.png", "https://"),
    *("https://pics.example.com:99999/", "https://pics.example.com/a b", "https://pics.example.com/a\r\nHost: b"),
    *("https://user:pw@pics.example.com/", "https://pics.example.com/a#b", "https://pics.example.com/#"),
    "http://127.0.0.1:80:80/",
]
PLAIN = [
    *(ADDRESS, "http://pics.example.com/a.png", "https://pics.example.com:8443/a.png?w=1&h=2", "https://8.8.8.8/a"),
    *("https://[2606:4700::1111]/a.png", "https://xn--mnchen-3ya.example/a%20b.png", "HTTPS://PICS.EXAMPLE.COM/A.PNG"),
]


def client_fetches(url):
    """Return whether the client would send an edit of the picture at this address."""
    request = EditRequest("a hat", image={"image_url": url}, model="gpt-image-2")
    problems = check(request, glance_at_sources(request))
    assert {problem.field for problem in problems} <= {"image[0]"}
    return not problems


def emulator_fetches(url):
    """Return whether the emulator would look up the host of this address."""
    try:
        check_url(url)
    except ForbiddenUrl:
        return False
    return True


def test_both_sides_agree_on_addresses():
    """Private networks are refused in every spelling; whether a name is public is checked when it is fetched."""
    accepted = [[url for url in (*HOSTILE, *PLAIN) if side(url)] for side in (client_fetches, emulator_fetches)]
    assert accepted == [PLAIN, PLAIN]


async def test_hostile_address_leads_to_no_connection():
    """With `fetch_remote=True`, the emulator connects to no spelling of the address of a server on this machine."""
    visits = []
    async with (
        await asyncio.start_server(lambda *_: visits.append("came"), "127.0.0.1", 0) as here,
        Emulator(fetch_remote=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, check_contracts=False) as lemon,
    ):
        port = here.sockets[0].getsockname()[1]
        for host in HERE:
            with pytest.raises(BadRequest, match="image_url"):
                await lemon.edit("a hat", image={"image_url": f"http://{host}:{port}/"}, model="gpt-image-2")
    assert visits == []
    assert emulator.ledger.sold.total() == 0


def picture(mode="RGB", size=(64, 64), kind="png"):
    """Return a picture as bytes."""
    file = io.BytesIO()
    PIL.Image.new(mode, size).save(file, kind)
    return file.getvalue()


def huge_header():
    """Return a PNG that claims 65,000 x 65,000 pixels."""
    png = picture()
    header = png[12:16] + struct.pack(">II", 65_000, 65_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


HOLED = picture("RGBA")
EDITS = {
    "picture": {"image": picture()},
    "jpeg": {"image": picture(kind="jpeg")},
    "webp": {"image": picture(kind="webp")},
    "gif": {"image": picture("P", kind="gif")},
    "sixteen": {"image": [picture()] * 16},
    "seventeen": {"image": [picture()] * 17},
    "three for xAI": {"image": [picture()] * 3, "model": "grok-imagine-image"},
    "four for xAI": {"image": [picture()] * 4, "model": "grok-imagine-image"},
    "none": {"image": []},
    "empty": {"image": b""},
    "text": {"image": b"<html>"},
    "cut": {"image": picture()[:-20]},
    "huge header": {"image": huge_header()},
    "mask": {"image": picture(), "mask": HOLED},
    "mask of another size": {"image": picture(), "mask": picture("RGBA", (64, 65))},
    "mask without transparency": {"image": picture(), "mask": picture()},
    "mask of another kind": {"image": picture(), "mask": picture("RGBA", kind="webp")},
    "dall-e-2 with transparency": {"image": HOLED, "model": None},
    "dall-e-2 without transparency": {"image": picture(), "model": None},
    "dall-e-2 with mask": {"image": picture(), "mask": HOLED, "model": "dall-e-2"},
    "dall-e-2 of another kind": {"image": picture(kind="jpeg"), "mask": HOLED, "model": "dall-e-2"},
    "model that cannot": {"image": picture(), "model": "dall-e-3"},
}


@pytest.mark.parametrize("case", EDITS)
async def test_both_sides_agree_on_every_picture(case, connect, emulator):
    """The emulator refuses what the client would not send, and accepts what the client sends."""
    request = EditRequest("a hat", **{"model": "gpt-image-2", **EDITS[case]})
    async with connect() as lemon:
        problems = lemon.validate(request)
        with pytest.raises((BadRequest, PayloadTooLarge)) if problems else nullcontext():
            await lemon.submit(request, check_contracts=False)
    assert emulator.ledger.sold.total() == (not problems)

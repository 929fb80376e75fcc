"""Client and emulator read the same documentation twice, without sharing a line of code; here they are compared."""

import asyncio
import io
import json
import struct
import zlib
from contextlib import nullcontext

import PIL.Image
import pytest

from lemon_async import EditRequest, GenerateRequest, LemonSession, VariationRequest
from lemon_async._api.encoding import encode
from lemon_async._api.families import FAMILIES
from lemon_async._api.validation import check
from lemon_async._uploads.preparation import glance_at_sources
from lemon_async.emulator import Emulator
from lemon_async.emulator.http.public_urls import ForbiddenUrl, check_url
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service_errors import ServiceError
from lemon_async.errors import BadRequest, PayloadTooLarge

MODELS = [
    *(id_.replace("*", "dev" if id_.startswith("flux") else "x") for family in FAMILIES for id_ in family.ids),
    "flux-schnell",
    None,
]
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
MAKE = {
    "generate": lambda **fields: GenerateRequest("a cat", **fields),
    "edit": lambda **fields: EditRequest("a cat", image=ADDRESS, **fields),
    "variation": lambda **fields: VariationRequest(image=b"", **fields),
}


def emulator_accepts(request):
    """Tell whether the emulator would sell this request, were its pictures in order."""
    try:
        parse_job(json.loads(encode(request)), operation=request.operation, default_model=request.default_model)
    except ServiceError:
        return False
    return True


@pytest.mark.parametrize("operation", MAKE)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("field", VALUES)
def test_both_sides_agree_on_every_family_and_field(operation, model, field):
    """What the client lets through, the emulator sells, and the other way round."""
    for value in VALUES[field]:
        try:
            request = MAKE[operation](model=model, **{field: value})
        except TypeError:  # this kind of request does not have the field
            return
        problems = [problem for problem in check(request) if not problem.field.startswith("image")]
        assert emulator_accepts(request) == (problems == []), (value, problems)


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


def problems_of(url):
    """Return what the client finds wrong with an edit of the picture at this address."""
    request = EditRequest("a hat", image={"image_url": url}, model="gpt-image-2")
    return check(request, glance_at_sources(request))


@pytest.mark.parametrize("url", HOSTILE)
def test_both_sides_refuse_a_hostile_address(url):
    """Nobody is sent into a private network, in whatever spelling."""
    assert [problem.field for problem in problems_of(url)] == ["image[0]"]
    with pytest.raises(ForbiddenUrl):
        check_url(url)


@pytest.mark.parametrize("url", PLAIN)
def test_both_sides_take_a_public_address(url):
    """What is public by its looks goes out."""
    assert problems_of(url) == ()
    check_url(url)


async def test_hostile_address_leads_to_no_connection():
    """A server on this machine is named in every spelling, and the emulator, told to fetch, knocks at none."""
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
    """What the client would not send, the emulator refuses, and sells what the client lets through."""
    request = EditRequest("a hat", **{"model": "gpt-image-2", **EDITS[case]})
    async with connect() as lemon:
        problems = lemon.validate(request)
        with pytest.raises((BadRequest, PayloadTooLarge)) if problems else nullcontext():
            await lemon.submit(request, check_contracts=False)
    assert emulator.ledger.sold.total() == (not problems)

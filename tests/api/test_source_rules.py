"""The rules for pictures to start from, row by row ("Edit image", "Remote image URLs", "Create image variation")."""

import pytest

from lemon_async._api.source_rules import MAX_SOURCE_BYTES, SourceFacts, check_upload, unreadable
from lemon_async._api.validation import check
from lemon_async._formats.pictures import PictureFacts
from lemon_async.requests import EditRequest, VariationRequest
from lemon_async.types import Problem

MIB = 1024 * 1024
PNG = PictureFacts("png", (64, 64), has_transparency=True)
OPAQUE = PictureFacts("png", (64, 64), has_transparency=False)
LINK = "https://cdn.example/cat.png"


def upload(index=0, picture=PNG, size_bytes=1000, **facts):
    return SourceFacts(place=f"image[{index}]", kind="upload", picture=picture, size_bytes=size_bytes, **facts)


def link(index=0, url=LINK):
    return SourceFacts(place=f"image[{index}]", kind="url", url=url)


def stored(index=0, model=None):
    return SourceFacts(place=f"image[{index}]", kind="file_id", model=model)


def mask(picture=PNG, size_bytes=1000, kind="upload", **facts):
    return SourceFacts(place="mask", kind=kind, picture=picture, size_bytes=size_bytes, **facts)


def problems_of(*sources, model="gpt-image-2"):
    """Return the problems of an edit that starts from these sources."""
    images = [source.place for source in sources if source.place != "mask"]
    return check(EditRequest("a hat", image=images, model=model), sources)


def variation_problems_of(*sources):
    return check(VariationRequest(image=[source.place for source in sources]), sources)


# "Edit image": `image`


def test_row_image_takes_png_jpeg_and_webp():
    for model in ("gpt-image-2", "flux-pro", "nano-banana-edit", "grok-imagine-image", "acme-paint-9"):
        for kind in ("png", "jpeg", "webp"):
            assert problems_of(upload(picture=PictureFacts(kind, (64, 64))), model=model) == ()


def test_row_image_takes_no_other_format():
    for model, kind, message in (
        ("gpt-image-2", "gif", "is GIF; GPT Image 2 takes PNG, JPEG or WebP"),
        ("gpt-image-2", "avif", "is AVIF; GPT Image 2 takes PNG, JPEG or WebP"),
        ("acme-paint-9", "gif", "is GIF; the service takes PNG, JPEG or WebP"),
        (None, "jpeg", "is JPEG; DALL-E 2 takes PNG"),
        ("dall-e-2", "webp", "is WebP; DALL-E 2 takes PNG"),
    ):
        assert problems_of(upload(picture=PictureFacts(kind, (64, 64))), model=model) == (Problem("image[0]", message),)


def test_row_image_has_at_most_50_mb():
    assert MAX_SOURCE_BYTES == 50 * MIB
    assert problems_of(upload(size_bytes=50 * MIB)) == ()
    assert problems_of(upload(size_bytes=50 * MIB + 1)) == (
        Problem("image[0]", "has 52,428,801 bytes; at most 52,428,800 are taken"),
    )


def test_row_image_has_as_many_sources_as_the_family_takes():
    """Sixteen in general; with more than three, xAI answers `400 too_many_images`."""
    for make in (upload, link):
        for model, name, bound in (
            ("gpt-image-2", "GPT Image 2", 16),
            ("acme-paint-9", "the service", 16),
            ("grok-imagine-image", "xAI Grok Imagine", 3),
            ("grok-imagine-image-quality", "xAI Grok Imagine", 3),
            ("grok-imagine-image-pro", "xAI Grok Imagine", 3),
        ):
            assert problems_of(*map(make, range(bound)), model=model) == ()
            assert problems_of(*map(make, range(bound + 1)), model=model) == (
                Problem("image", f"{name} takes at most {bound} pictures, not {bound + 1}"),
            )


def test_row_image_is_required():
    assert problems_of() == (Problem("image", "give at least one picture to start from"),)


def test_row_image_of_dall_e_2_has_transparent_areas_or_a_mask():
    """The page says: "PNG inputs with transparent areas, or a separate mask"."""
    advice = "has no alpha channel: DALL-E 2 needs one, or a separate mask="
    assert problems_of(upload(), model="dall-e-2") == ()
    assert problems_of(upload(picture=OPAQUE), mask(), model="dall-e-2") == ()
    assert problems_of(upload(picture=OPAQUE), model="dall-e-2") == (Problem("image[0]", advice),)
    assert problems_of(upload(), upload(1, picture=OPAQUE), model="dall-e-2") == ()
    assert problems_of(upload(picture=OPAQUE), model="gpt-image-2") == ()
    assert problems_of(upload(picture=OPAQUE), model="acme-paint-9") == ()


@pytest.mark.parametrize(
    "source", [upload(picture=PictureFacts("png", (64, 64))), upload(picture=None, size_bytes=None), link(), stored()]
)
def test_row_image_of_dall_e_2_is_trusted_before_it_is_examined(source):
    assert problems_of(source, model="dall-e-2") == ()


def test_source_that_cannot_be_used_has_its_fault_and_no_other():
    """A picture that is cut off and of the wrong format is reported once."""
    source = upload(picture=PictureFacts("gif", (9, 9)), fault="the picture is cut off")
    assert problems_of(source, link(1, "ftp://x/")) == (
        Problem("image[0]", "the picture is cut off"),
        Problem("image[1]", "is not an http or https address"),
        Problem("image", f"{MIXED} (addresses or ids: image[1])"),
    )


def test_source_has_no_problem_before_it_is_examined():
    """Streams are examined when they are read; an earlier check has only the request."""
    assert check(EditRequest("a hat", image=["a.png", "b.png"], model="gpt-image-2")) == ()
    assert check(VariationRequest(image="a.png")) == ()


# "Edit image": JSON with `image_url`, `image_urls`, `images`

MIXED = "a request holds uploads or addresses, not both: give the bytes of all, or upload the others first"


def test_row_images_takes_addresses_and_stored_files_together():
    assert problems_of(link(), stored(1), link(2), stored(3, model="gpt-image-2")) == ()


def test_row_images_takes_no_uploads_beside_addresses():
    assert problems_of(upload(), link(1), stored(2), upload(3)) == (
        Problem("image", f"{MIXED} (addresses or ids: image[1], image[2])"),
    )


@pytest.mark.parametrize(("model", "shown"), [("gpt-image-2", "gpt-image-2"), (None, "dall-e-2")])
def test_row_file_id_is_bound_to_the_model_it_was_uploaded_for(model, shown):
    """From "Files": bound to that model's channel."""
    advice = f"was uploaded for flux-pro, and a file is bound to its model; this request is for {shown}"
    assert problems_of(stored(model="flux-pro"), model=model) == (Problem("image[0]", advice),)
    assert problems_of(stored(model=shown), model=model) == ()
    assert problems_of(stored(model=None), model=model) == ()


def test_long_names_are_cut():
    (problem,) = problems_of(stored(model="a" * 100_000), model="b" * 100_000)
    assert len(problem.message) < 300
    (problem,) = check_upload(upload(), purpose="a" * 100_000, model=None, filename="a.png")
    assert len(problem.message) < 150


# "Edit image": `mask`


def test_row_mask_is_a_png():
    assert problems_of(upload(), mask()) == ()
    assert problems_of(upload(), mask(PictureFacts("webp", (64, 64)))) == (Problem("mask", "is WebP; a mask is a PNG"),)


def test_row_mask_has_transparent_areas():
    advice = "has no alpha channel: make the areas to be edited fully transparent, and save it as RGBA"
    assert problems_of(upload(), mask(OPAQUE)) == (Problem("mask", advice),)
    assert problems_of(upload(), mask(PictureFacts("png", (64, 64)))) == ()  # its header is longer than what was read


@pytest.mark.parametrize("size", [(64, 63), (63, 64), (32, 32)])
def test_row_mask_has_the_dimensions_of_the_first_image(size):
    advice = f"is {size[0]} x {size[1]}, and image[0] is 64 x 64: they must match"
    small = PictureFacts("png", size, has_transparency=True)
    assert problems_of(upload(), mask(small)) == (Problem("mask", advice),)
    assert problems_of(upload(picture=small), upload(1), mask(small)) == ()


@pytest.mark.parametrize("picture", [None, PictureFacts("webp", None)], ids=["not examined", "no size in the header"])
def test_row_mask_is_not_compared_with_an_image_of_unknown_dimensions(picture):
    assert problems_of(upload(picture=picture), mask()) == ()


@pytest.mark.parametrize("picture", [None, PictureFacts("png", None, has_transparency=True)])
def test_row_mask_of_unknown_dimensions_is_trusted(picture):
    assert problems_of(upload(), mask(picture)) == ()


def test_row_mask_has_less_than_50_mb():
    assert problems_of(upload(), mask(size_bytes=50 * MIB - 1)) == ()
    assert problems_of(upload(), mask(size_bytes=50 * MIB)) == (
        Problem("mask", "has 52,428,800 bytes; fewer than 52,428,800 are taken"),
    )


@pytest.mark.parametrize(
    "sources",
    [(link(), mask()), (stored(), mask()), (upload(), mask(kind="url")), (link(), mask(kind="file_id"))],
    ids=["image by address", "image by id", "mask by address", "both by id"],
)
def test_row_mask_is_uploaded_with_uploaded_images(sources):
    """The JSON form of "Edit image" has no mask."""
    advice = "goes with uploads only: give both as files or bytes, not as addresses or ids"
    assert problems_of(*sources) == (Problem("mask", advice),)


def test_row_mask_without_an_image_is_judged_by_itself():
    missing = Problem("image", "give at least one picture to start from")
    assert problems_of(mask()) == (missing,)
    assert problems_of(mask(PictureFacts("gif"))) == (missing, Problem("mask", "is GIF; a mask is a PNG"))


def test_row_mask_that_cannot_be_used_has_its_fault_and_no_other():
    assert problems_of(upload(), mask(OPAQUE, fault="the picture is cut off")) == (
        Problem("mask", "the picture is cut off"),
    )


# "Create image variation"


def test_row_variation_takes_a_square_png():
    assert variation_problems_of(upload(picture=OPAQUE)) == ()
    assert variation_problems_of(upload(picture=PictureFacts("png", None))) == ()
    assert variation_problems_of(upload(picture=None, size_bytes=None)) == ()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (PictureFacts("png", (64, 65)), "is PNG of 64 x 65"),
        (PictureFacts("jpeg", (64, 64)), "is JPEG of 64 x 64"),
        (PictureFacts("avif"), "is AVIF"),
    ],
)
def test_row_variation_takes_nothing_else(picture, words):
    assert variation_problems_of(upload(picture=picture)) == (
        Problem("image[0]", f"{words}; a variation takes a square PNG"),
    )


def test_row_variation_has_less_than_4_mb():
    assert variation_problems_of(upload(size_bytes=4 * MIB - 1)) == ()
    assert variation_problems_of(upload(size_bytes=4 * MIB)) == (
        Problem("image[0]", "has 4,194,304 bytes; fewer than 4,194,304 are taken"),
    )


def test_row_variation_starts_from_one_picture():
    assert variation_problems_of() == (Problem("image", "a variation starts from one picture, not 0"),)
    assert variation_problems_of(upload(), upload(1)) == (
        Problem("image", "a variation starts from one picture, not 2"),
    )


@pytest.mark.parametrize("source", [link(), stored()])
def test_row_variation_is_uploaded(source):
    assert variation_problems_of(source) == (Problem("image[0]", "is uploaded: give a file or bytes, not an address"),)


def test_row_variation_that_cannot_be_used_has_its_fault():
    assert variation_problems_of(upload(picture=None, fault="there are no bytes")) == (
        Problem("image[0]", "there are no bytes"),
    )


# "Remote image URLs"

NO_ADDRESS = "is not a plain web address such as https://example.com/cat.png (anything beyond ASCII percent-encoded)"
NO_WEB = "is not an http or https address"
CREDENTIALS = "holds credentials, which the service refuses: upload the picture instead"
FRAGMENT = "has a fragment (#…), which the service refuses: leave it out"
PRIVATE = "points into a private network, where the service does not fetch: upload the picture instead"

PUBLIC = [
    LINK,
    "http://cdn.example/cat.png",
    "HTTPS://CDN.EXAMPLE:8443/a//b?Expires=1&Signature=a~b_c-d%2F@",
    "https://my_bucket.s3.amazonaws.com/cat.png",
    "https://xn--bcher-kva.example/%C3%A9.png",
    "https://127.0.0.1.example/cat.png",
    "https://localhost.example/cat.png",
    "https://cdn.example./cat.png",
    "https://cdn.example",
    *("https://8.8.8.8/cat.png", "https://172.32.0.1/cat.png", "https://100.128.0.1/cat.png"),
    "https://[2606:4700::1111]:443/cat.png",
]


def test_row_remote_takes_public_addresses():
    for url in PUBLIC:
        assert problems_of(link(url=url)) == ()


ROW_REMOTE_TAKES_HTTP_ROWS = (
    *((url, NO_ADDRESS) for url in ("", "cat.png", "/cat.png", "https:///cat.png", "https:cdn.example", "https://")),
    *((url, NO_ADDRESS) for url in ("data:image/png;base64,iVBORw0KGgo=", "javascript:alert(1)", "file:///etc/passwd")),
    ("//cdn.example/cat.png", NO_WEB),
    ("ftp://cdn.example/cat.png", NO_WEB),
    ("file://localhost/etc/passwd", NO_WEB),
    ("gopher://127.0.0.1:25/", NO_WEB),
    ("ws://cdn.example/", NO_WEB),
    ("s3://bucket/cat.png", NO_WEB),
    ("https://me:secret@cdn.example/cat.png", CREDENTIALS),
    ("https://me@cdn.example/cat.png", CREDENTIALS),
    ("https://@cdn.example/cat.png", CREDENTIALS),
    ("https://cdn.example@127.0.0.1/cat.png", CREDENTIALS),
    ("https://me%40x:y@cdn.example/cat.png", CREDENTIALS),
    ("https://cdn.example/cat.png#part", FRAGMENT),
    ("https://cdn.example/cat.png#", FRAGMENT),
    ("https://cdn.example#@127.0.0.1/cat.png", FRAGMENT),
    ("https://cdn.example?#", FRAGMENT),
    *((f"https://{host}/cat.png", NO_ADDRESS) for host in ("cdn.example:port", "cdn.example:99999", "[::1", "[::1]x")),
    *(
        (f"https://{host}/cat.png", NO_ADDRESS)
        for host in ("localhos%74", "127.0.0.%31", "%6cocalhost", "[fe80::1%25eth0]")
    ),
    *(
        (f"https://{host}/cat.png", NO_ADDRESS)
        for host in ("①②⑦.0.0.1", "127。0。0。1", "ⓛocalhost", "cdn\u00ad.example")
    ),
    *(
        (f"https://cdn.example{tail}", NO_ADDRESS)
        for tail in ("\\@127.0.0.1/", "/a b", "/a\tb", "/a\r\nHost: x", "/\0")
    ),
    (" https://cdn.example/cat.png", NO_ADDRESS),
    ("https://cdn.example/cat.png\n", NO_ADDRESS),
    ("https://cdn.example/猫.png", NO_ADDRESS),
)


def test_row_remote_takes_http_without_credentials_and_fragment_only():
    for url, words in ROW_REMOTE_TAKES_HTTP_ROWS:
        assert problems_of(link(url=url)) == (Problem("image[0]", words),)


# One line for each way to write it: names, dotted, short, hexadecimal, octal, one number, inside IPv6.
LOCALHOST = [
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "printer.local",
        "metadata.google.internal",
        "x.internal.",
    ),
    *("127.0.0.1", "127.0.0.1.", "127.255.255.254", "0.0.0.0", "0", "0.0.0.1"),
    *("127.1", "127.0.1", "127.1.", "0x7f.1", "0X7F.1", "127.0x1", "0x7f.0x0.0x0.0x1", "0x7F000001", "0x"),
    *("0177.0.0.1", "0177.1", "017700000001", "2130706433", "2130706433.", "127.0.0.01", "00000127.0.0.1"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]"),
    *("[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
]
PRIVATE_AND_RESERVED = [
    *("10.0.0.1", "10.1", "0xa.1", "012.1", "167772161", "172.16.0.1", "172.31.255.254", "192.168.0.1", "3232235521"),
    *("100.64.0.1", "100.127.255.254", "169.254.0.1", "169.254.169.254", "0xa9fea9fe", "2852039166", "169.254.43518"),
    *(
        "192.0.0.1",
        "192.0.0.10",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
    ),
    *("240.0.0.1", "255.255.255.255", "256.256.256.256", "1.2.3.4.5", "4294967296"),
    *("[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[2001::1]", "[2001:db8::1]", "[100::1]"),
    *(
        "[::ffff:10.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[2002:808:808::1]",
        "[4000::1]",
    ),
]


def test_row_remote_leads_to_no_private_or_reserved_address_in_any_spelling():
    for form in ("https://{}/cat.png", "http://{}:8080", "HTTP://{}?x"):
        for host in LOCALHOST + PRIVATE_AND_RESERVED:
            assert problems_of(link(url=form.format(host))) == (Problem("image[0]", PRIVATE),)


def test_row_remote_problem_names_the_place_and_not_the_address():
    """An address may contain credentials, which must not be logged."""
    secret = "https://me:secret@cdn.example/?Signature=secret#secret"
    problems = problems_of(link(), link(1, secret))
    assert [problem.field for problem in problems] == ["image[1]"]
    assert "secret" not in str(problems)


# Files


def file_facts(**facts):
    return SourceFacts(place="file", kind="upload", **{"size_bytes": 9, "picture": PictureFacts("png"), **facts})


def test_row_file_is_a_picture_of_50_mb_for_a_known_purpose():
    for facts, options, problems in (
        ({}, {}, []),
        ({"size_bytes": MAX_SOURCE_BYTES}, {}, []),
        ({"size_bytes": MAX_SOURCE_BYTES + 1}, {}, ["file: has 52,428,801 bytes; at most 52,428,800 are taken"]),
        ({"picture": PictureFacts("gif")}, {}, ["file: is GIF; the service takes PNG, JPEG or WebP"]),
        ({"picture": PictureFacts("gif")}, {"purpose": "user_data"}, []),
        ({"picture": None, "fault": "is text"}, {}, ["file: is text"]),
        ({"picture": None, "fault": "is text"}, {"purpose": "user_data"}, []),
        ({"size_bytes": 0, "fault": "is empty"}, {"purpose": "user_data"}, ["file: is empty"]),
        ({"fault": "is gone", "is_readable": False}, {"purpose": "user_data"}, ["file: is gone"]),
        ({}, {"purpose": "fun"}, ["purpose: must be one of vision, user_data, not 'fun'"]),
        ({}, {"model": "a\nb"}, ["model: must be one line of text and not empty"]),
        ({}, {"filename": ""}, ["filename: must be one line of text and not empty"]),
    ):
        given = {"purpose": "vision", "model": None, "filename": "cat.png", **options}
        assert list(map(str, check_upload(file_facts(**facts), **given))) == problems


def test_unreadable_source_is_reported_even_with_the_check_off():
    gone = SourceFacts(place="image[1]", kind="upload", fault="is gone", is_readable=False)
    assert unreadable([file_facts(fault="is text"), gone]) == (Problem("image[1]", "is gone"),)

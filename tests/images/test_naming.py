"""Names by templates: untrusted values in them are harmless."""

import ntpath
import posixpath
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lemon_async import ContractError
from lemon_async._images.atomic_file import checked_target
from lemon_async._images.naming import Template, checked_folder, slug_of

BIDI = "\u202e"


SLUGS = [
    ("A white cat, on a windowsill!", "a-white-cat-on-a-windowsill"),
    ("", "image"),
    ("../../etc/passwd", "etc-passwd"),
    ("***", "image"),
    ("Zażółć gęślą JAŹŃ", "zażółć-gęślą-jaźń"),
    ("一只白猫", "一只白猫"),
    (f"cat{BIDI}gnp.exe", "cat-gnp-exe"),
    ("cat\0.png", "cat-png"),
    ("con", "image-con"),
    ("LPT¹", "image-lpt¹"),
    ("x" * 10**6, "x" * 48),
    ("猫" * 500, "猫" * 40),
    ("_-a-_", "a"),
]


def test_slug_is_part_of_a_name_on_any_system():
    for text, slug in SLUGS:
        assert slug_of(text) == slug


@given(st.text())
def test_slug_is_a_name_by_itself(text):
    """The slug of any prompt is a valid name."""
    slug = slug_of(text)
    assert checked_target(slug).name == slug
    assert len(slug.encode()) <= 126


class Odd:
    """A path whose `__fspath__` raises."""

    def __fspath__(self):
        raise RuntimeError("odd")


BAD_FOLDERS = [
    ("a\0b", "must not hold a NUL"),
    (None, "must be a path, not None"),
    (Odd(), "must be a path"),
    ("\ud800", "must not"),
]


def test_folder_that_cannot_be_is_refused():
    for folder, reason in BAD_FOLDERS:
        with pytest.raises(ContractError, match=f"folder: {reason}"):
            checked_folder(folder)


VALUES = {"index": 7, "slug": "a-cat", "model": "flux-pro", "task_id": "t1", "created": 5, "format": "png", "width": 2}


FILLED = [
    ("{index}-{slug}", "7-a-cat"),
    ("{index:03}", "007"),
    ("{model}_{width}x{height}", "flux-pro_2x0"),
    ("cat", "cat"),
    ("{{{task_id}}}", "{t1}"),
    ("{created}-{format}", "5-png"),
    ("{index}.png", "7"),
    ("{index}.JPG", "7"),
    ("{slug}.{format}", "a-cat"),
    ("v1.5-{index}", "v1.5-7"),
    ("{slug:.3}", "a-c"),
    ("{index:_>4}", "___7"),
    ("{model}/{slug}/{index:03}.png", "flux-pro/a-cat/007"),
    ("{slug}/.png", "a-cat/.png"),
    ("~/{index}", "~/7"),
]


def test_template_is_filled():
    for text, name in FILLED:
        assert Template(text).fill(**VALUES) == name


def test_untrusted_values_become_slugs():
    """Ids and model names from the server cannot change the folder."""
    hostile = {"task_id": "../../evil\0", "model": "a/b\\c", "slug": None, "index": "x", "width": 1.5}
    assert Template("{task_id}-{model}-{slug}-{index}-{width}").fill(**hostile) == "evil-a-b-c-none-0-0"
    assert Template("{created}").fill(created=10**5000) == "0"


FIELDS = ("index", "slug", "model", "task_id", "created", "format", "width", "height", "0", "", "slug.__class__")
SPECS = (
    "",
    ":03",
    ":/>9",
    ":\\>9",
    ":c",
    ":.>3",
    ":.2",
    ":\0<5",
    ":.0",
    ":{height}",
    ":n",
    ":>99",
    ":999999999",
    "!r",
    "!a",
)
literals = st.text(alphabet="/\\~.: c\0{}aé", max_size=4)
fields = st.builds("{{{}{}}}".format, st.sampled_from(FIELDS), st.sampled_from(SPECS) | literals.map(":{}".format))
texts = st.sampled_from(["", "..", "../..", "con", "C:", "/etc", "a\0b"]) | st.text(max_size=8)
numbers = st.sampled_from([47, 92, 0, 46, -1, True, 10**5000]) | st.integers()
values = st.fixed_dictionaries(
    {name: numbers if name in {"index", "created", "width", "height"} else texts for name in FIELDS[:8]}
)


@given(st.lists(literals | fields, min_size=1, max_size=5).map("".join), values)
@example("{slug:/>9}", VALUES)
@example("{width:c}", {**VALUES, "width": 47})
@example("{width:c}{height:c}/{index}", {**VALUES, "width": 46, "height": 46})
@example("{slug:.0}/{index}", VALUES)
@example("{format:.2}:{slug}", {**VALUES, "format": "c"})
@example("::", VALUES)
def test_filled_template_is_inside_its_folder_with_the_parts_that_it_shows(template, filled):
    """Only the separators in the text of a template make folders; fields never do."""
    try:
        name = Template(template).fill(**filled) + ".png"
    except ContractError:
        return
    shown = sum(literal.count("/") for literal, *_ in string.Formatter().parse(template))
    for system, folder in ((posixpath, "/out"), (ntpath, "C:\\out")):
        target = system.normpath(system.join(folder, name))
        assert target.startswith(folder + system.sep)
        assert target.count(system.sep) == folder.count(system.sep) + shown + 1
    assert not set(name) & {"\0", "\\", "\n"}


def test_template_that_becomes_a_device_or_too_long_becomes_a_slug():
    assert Template("{model}").fill(model="con") == "none-con"
    assert len(Template("{slug}" * 4).fill(slug="猫" * 100).encode()) <= 126


BAD_TEMPLATES = [
    ("{indx}", r"contains the unknown field 'indx'; the fields are \{index\}, "),
    ("{index.__class__}", "contains the unknown field 'index.__class__'"),
    ("{index[0]}", r"contains the unknown field 'index\[0\]'"),
    ("{}", "contains the unknown field ''"),
    ("{0}", "contains the unknown field '0'"),
    ("{index", "is not a template: "),
    ("{slug:d}", "is not a template: "),
    ("{index:q}", "has a format that names do not take, 'q'"),
    ("{index:{created}}", r"has a format that names do not take, '\{created\}'"),
    ("{index:0999999999}", "has a format that names do not take, '0999999999'"),
    ("{slug:/>9}", "has a format that names do not take, '/>9'"),
    ("{width:c}", "has a format that names do not take, 'c'"),
    ("{slug:.0}", "has a format that names do not take, '.0'"),
    ("{slug!r}", "has a conversion, '!r'"),
    ("{slug!a:>5}", "has a conversion, '!a'"),
    ("a\\{index}", "must separate folders by '/'"),
    ("/tmp/{index}", "must be relative to its folder"),
    ("a//{index}", "must name a file"),
    ("a/../{index}", "must name a file"),
    ("a/.. /{index}", "must name a file"),
    ("{index}/", "must name a file"),
    ("C:/{index}", "must not name a drive"),
    ("", "must name a file"),
    ("..", "must name a file"),
    ("con", "is the name of a device"),
    ("\n{index}", "must not hold control characters"),
    ("x" * 256, "is longer than 255 bytes"),
    (5, "must be text, not 5"),
]


def test_template_that_cannot_be_is_refused():
    for text, reason in BAD_TEMPLATES:
        with pytest.raises(ContractError, match=f"name: {reason}"):
            Template(text)


GIVEN = [
    ("{key}", "SKU-001", "SKU-001"),
    ("{key}", "../Böse Dinge", "Böse-Dinge"),
    ("{key}", None, "none"),
    ("{key}", "con", "none-con"),
    ("{key}", "猫" * 300, "猫" * 60),
    ("{key:.3}", "abcdef", "abc"),
    ("{key:05}", "7", "00007"),
    ("{key:05}", 7, "00007"),
    ("{key:05d}", "x7", "x7"),
    ("{key:,}", "1000", "1,000"),
    ("{slug}/{key}", "A", "a-cat/A"),
]


def test_values_of_the_caller_keep_their_case():
    """A number may come as text, as from a CSV file; a format for numbers is ignored where there is none."""
    for template, value, name in GIVEN:
        values = {**VALUES, "key": value}
        assert Template(template, values).fill(**values) == name, template


def test_further_names_are_fields():
    """Only those that braces can look up, and never in place of a field of the same name."""
    assert Template("{big name}", ["big name"]).fill(**{"big name": "Cat"}) == "Cat"
    assert Template("{model}", ["model"]).fill(model="FLUX") == "flux"
    for field in ("a.b", "a[0]", "x"):
        with pytest.raises(ContractError, match="unknown field"):
            Template(f"{{{field}}}", ["a.b", "a[0]", "a"])

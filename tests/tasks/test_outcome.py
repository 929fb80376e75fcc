"""How the outcomes of a map look in a console and in a notebook."""

import pytest

from lemon_async import GenerateRequest, Outcome
from lemon_async._api.job_responses import pack
from lemon_async._images.images import Images
from lemon_async.errors import TaskFailed
from lemon_async.types import ImageData, Inline, TaskSnapshot

ATTACK = '"><img src=x onerror=alert(1)>'


def request(prompt="a cat"):
    return GenerateRequest(model="flux-pro", prompt=prompt)


def images_of(*contents):
    entries = tuple(ImageData(inline=Inline(content)) for content in contents)
    return Images(pack(TaskSnapshot(status="completed", images=entries)), None)


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(3, request(), images=images_of(b"x")), "<Outcome 3 'a cat' 1 image>"),
        (Outcome(3, request(), images=images_of(b"x", b"y")), "<Outcome 3 'a cat' 2 images>"),
        (Outcome(3, None, error=ValueError("no\ngood")), "<Outcome 3 ValueError: no good>"),
        (Outcome(3, request(), key="sku 1", images=images_of(b"x")), "<Outcome 3 key='sku 1' 'a cat' 1 image>"),
        (
            Outcome(3, request(), key=("a", 0), error=ValueError("no")),
            "<Outcome 3 key=('a', 0) 'a cat' ValueError: no>",
        ),
        (
            Outcome(3, request(), error=TaskFailed(reason="no luck")),
            "<Outcome 3 'a cat' TaskFailed: task (answered inline) failed: no luck>",
        ),
    ],
)
def test_repr_is_one_line(outcome, line):
    """It shows the job and its outcome."""
    assert repr(outcome) == line


def test_repr_is_short():
    """Long prompts and errors are cut."""
    line = repr(Outcome(3, request("long " * 999), error=ValueError("longer " * 999)))
    assert len(line) < 200
    assert "\n" not in line


def test_outcome_shows_its_pictures(picture):
    """Notebooks show its images."""
    outcome = Outcome(3, request(), images=images_of(picture()))
    data, _ = outcome._repr_mimebundle_()
    assert "data:image/png;base64," in data["text/html"]
    assert data["text/plain"] == repr(outcome)


def test_outcome_without_pictures_shows_its_error():
    """The error is escaped text."""
    data, _ = Outcome(3, request(ATTACK), error=ValueError(ATTACK))._repr_mimebundle_()
    assert "ValueError: &quot;&gt;&lt;img" in data["text/html"]
    assert "<img" not in data["text/html"]

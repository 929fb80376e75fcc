import json

import orjson
import pytest

from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State
from lemon_async.batch.watching.wire import row_in, row_out, rows_out, to_line


def row(key="a", request=b'{"prompt":"x"}', **facts):
    return JournalRow(number=7, key=key, state=State.DONE, request=request, **facts)


def there_and_back(each):
    return row_in(json.loads(to_line(row_out(each))))


@pytest.mark.parametrize(
    "text",
    ["a", '"><script>alert(1)</script>', "two\nlines\r\0", "\u202eevil", "猫 🐈", "name of a file \udcff"],
)
def test_row_survives_the_way(text):
    """Whatever its texts are; paths may be no UTF-8."""
    each = row(
        key=text.replace("\udcff", ""),
        columns=orjson.dumps({"sku": text.replace("\udcff", "")}),
        error=text.replace("\udcff", ""),
        task="token",
        price_usd=0.1,
        pictures=(SavedPicture(text, 3, "ff"), SavedPicture("b", 4, "00")),
    )
    assert there_and_back(each) == each
    assert to_line(row_out(each)).count(b"\n") == 1


def test_long_row_keeps_what_people_look_at():
    """Model and the beginning of the prompt; a request of megabytes is not sent again and again."""
    request = orjson.dumps({"extra": "y" * 100_000, "model": "flux-pro", "prompt": "p" * 100_000})
    shown = orjson.loads(there_and_back(row(request=request, columns=b"{}")).request)
    assert shown == {"model": "flux-pro", "prompt": "p" * 4096}


def test_answer_is_bounded_and_never_empty():
    """Rows that do not fit are asked for again, after the last one that did."""
    rows = [row(request=orjson.dumps({"prompt": "p" * 60_000}))] * 200
    assert 1 <= len(rows_out(rows)) < 20
    assert len(to_line({"rows": rows_out(rows)})) < 2 * 2**20

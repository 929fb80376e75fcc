"""Decoding base64 text; `test_base64_json` covers base64 in JSON."""

import base64

import pytest

from lemon_async._formats.base64_json import decode_base64, reserve_buffer


@pytest.mark.parametrize("size_bytes", [0, 3, 1000, 2**62], ids=["none", "too little", "enough", "more than there is"])
def test_buffer_takes_any_number_of_bytes(size_bytes):
    """Without overcommit, the buffer grows as needed."""
    room = reserve_buffer(size_bytes)
    for piece in (b"01", b"234", b"56789"):
        room.write(piece)
    room.truncate()
    assert room.getvalue() == b"0123456789"


def test_url_safe_alphabet_is_read_too():
    """Some gateways use it for `url` fields."""
    content = bytes(range(256))
    assert decode_base64(base64.urlsafe_b64encode(content).decode()).content == content

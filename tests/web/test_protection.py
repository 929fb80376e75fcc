"""Who may change something."""

import pytest

from pages import make_pages, own_headers, serving


async def test_the_page_itself_can_change_things():
    pages, things = make_pages()
    async with serving(pages) as ask:
        status, _, _ = await ask("POST", "/_page/things", json={"a": 1}, headers=own_headers(pages, ask.url))
    assert (status, things) == (201, [{"a": 1}])


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1.evil.example"}, 403),
        ({"Origin": None}, 403),
        ({"X-Page-Token": None}, 403),
        ({"X-Page-Token": ""}, 403),
        ({"X-Page-Token": "é"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": ""}, 421),
    ],
    ids=str,
)
async def test_nothing_is_changed_by_requests_of_other_pages(changed, status):
    pages, things = make_pages()
    async with serving(pages) as ask:
        headers = {**own_headers(pages, ask.url), **changed}
        headers = {name: value for name, value in headers.items() if value is not None}
        got, _, _ = await ask("POST", "/_page/things", json={"a": 1}, headers=headers)
    assert (got, things) == (status, [])


async def test_other_pages_may_link_to_the_page_and_read_nothing_else():
    pages, _ = make_pages()
    async with serving(pages) as ask:
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert (await ask("GET", "/", headers=foreign))[0] == 200
        assert (await ask("GET", "/_page/static/page.js", headers=foreign))[0] == 403


def test_tokens_differ_and_are_in_no_repr():
    pages, other = make_pages()[0], make_pages()[0]
    assert pages.protection.token != other.protection.token
    assert pages.protection.token not in repr(pages)

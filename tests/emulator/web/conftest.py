"""An emulator with a studio, and its page as a client."""

import pytest
from attrs import frozen

from lemon_async.emulator import Emulator


@frozen
class Page:
    """Requests as the page sends them."""

    emu: Emulator
    client: object

    async def get(self, path, **query):
        """Read something; return its JSON."""
        answer = await self.ask("GET", path, params=query)
        assert answer.status == 200, answer.raw
        return answer.json

    async def change(self, method, path, body=None):
        """Change something."""
        token = self.emu._handler.pages.protection.token
        headers = {"Origin": self.emu.base_url, "X-Page-Token": token}
        return await self.ask(method, path, headers=headers, json=body)

    async def ask(self, method, path, **options):
        """Send a request without the key."""
        return await self.client.ask(method, path, key="", **options)

    async def summary(self):
        """Return the summary without its stream."""
        return await self.emu._handler.pages.summaries.read()


@pytest.fixture
async def emu():
    async with Emulator(durations=0, studio=True) as emulator:
        yield emulator


@pytest.fixture
def page_of(client_of):
    return lambda emulator: Page(emulator, client_of(emulator))


@pytest.fixture
def page(emu, page_of):
    return page_of(emu)

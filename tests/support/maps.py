"""Sources and readers of maps."""

import asyncio

MODEL = "flux-pro"


def prompts(number):
    return [f"p{index}" for index in range(number)]


class Source:
    """An iterable of prompts that counts what was pulled."""

    def __init__(self, number, is_async=False):
        self.number = number
        self.is_async = is_async
        self.pulled = 0

    def items(self):
        return self._later() if self.is_async else self._now()

    def _now(self):
        while self.pulled < self.number:
            self.pulled += 1
            yield f"p{self.pulled - 1}"

    async def _later(self):
        for prompt in self._now():
            await asyncio.sleep(0)
            yield prompt


async def outcomes_of(session, items, **options):
    options = {"model": MODEL, **options}
    async with session.map(items, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def collect(outcomes, seen):
    """Read to the end; what came before an error is seen, too."""
    async for outcome in outcomes:
        seen.append(outcome)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def submits(emulator):
    return sum(request.route == "submit" for request in emulator.requests)


def workers():
    return [task for task in asyncio.all_tasks() if task.get_name() == "lemon_async map"]

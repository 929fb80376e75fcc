"""Stand-ins for the downloads and the task of an image."""

import attrs

from lemon_async._formats.pictures import sniff
from lemon_async._images.renewable_urls import ResultAccess, TaskRef

URL = "https://cdn.test/1.png?signature=secret"


@attrs.define
class Cdn:
    """Scripted downloads that are recorded."""

    outcome: object = b""
    asked: list = attrs.field(factory=list)
    total_s = 60.0

    @property
    def access(self):
        return ResultAccess(downloads=self, check_usable=lambda: None, calls=None, base_url="https://api.test")

    async def fetch(self, url, *, task_id=None):
        self.asked.append(url)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def save(self, url, file, *, task_id=None):
        content = await self.fetch(url)
        file.write(content)
        return sniff(content)

    def can_follow(self, url):
        return "10.0.0.1" not in url

    async def stream(self, url, *, task_id=None):
        content = await self.fetch(url)
        for start in range(0, len(content), 20):
            yield content[start : start + 20]


@attrs.define
class Task:
    """A task for errors."""

    id: str = "ldtask_1"

    def resume_token(self):
        return "lemon1.token"


def ref_to(task):
    return TaskRef(task, lambda: "lemon1.token")

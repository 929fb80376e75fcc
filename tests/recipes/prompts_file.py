"""Make a picture of every line of `prompts.txt`; started again, it continues where it stopped.

    pip install 'lemon-async[notebook,sheet]'
    python prompts_file.py

Pictures are named after their prompts: lines may come, go and move, and a repeated line counts once. A picture that is
on disk is not ordered again, and a job that was sold is resumed by its token; failures that were not sold are retried
by the next run. `failed.json` holds the reasons, and a sheet the orders, of one run. In `sold.json`, `null` marks a
request whose outcome is unknown (look in your account), and `false` a picture that was sold, arrived in the response
and could not be saved; delete the line to order it again. A run that is killed (`kill -9`) loses the tokens of the jobs
in flight.
"""

import asyncio
import json
import re
import sys
from datetime import datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from lemon_async import ImageTask, LemonError, LemonSession, Outcome, Outcomes
from lemon_async.errors import TaskFailed
from lemon_async.sheet import contact_sheet


def name_of(prompt: str) -> str:
    """Return a file name that depends on the prompt only, not on its place in the file."""
    slug = "-".join(re.findall(r"\w+", prompt.lower()))[:40]
    return f"{slug}-{sha256(prompt.encode()).hexdigest()[:12]}"


def note_of(task: ImageTask) -> str | bool:
    return task.resume_token() if task.id else False  # an inline response has no token


async def batch(source: Path, folder: Path) -> None:
    """Make a picture of every line that has none."""
    folder.mkdir(exist_ok=True)
    names = {line: name_of(line) for line in source.read_text(encoding="utf-8").splitlines() if line.strip()}
    saved = {path.stem for path in folder.iterdir()}
    notes = folder / "sold.json"  # prompts that were sold, or may have been, and the tokens of their tasks
    sold = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    todo = [line for line, name in names.items() if name not in saved and line not in sold]
    ended: list[Outcome] = []
    failed: dict[str, str] = {}

    async def keep(prompt: str, task: ImageTask) -> None:
        sold[prompt] = note_of(task)
        try:
            await (await task)[0].save(folder / names[prompt])
        except LemonError as error:
            failed[prompt] = str(error)
            if not isinstance(error, TaskFailed):  # refunded: the next run orders it again
                return
        del sold[prompt]

    async def read(outcomes: Outcomes) -> None:
        async for outcome in outcomes:
            ended.append(outcome)
            if outcome.task:
                await keep(todo[outcome.index], outcome.task)
            else:
                failed[todo[outcome.index]] = str(outcome.error)

    async with LemonSession(requests_per_minute=1000) as lemon:
        jobs = lemon.map(todo, model="flux-pro", in_flight=400, progress=True)
        try:
            async with jobs as outcomes, asyncio.TaskGroup() as group:
                for prompt, token in sold.items():
                    if token and prompt in names:
                        group.create_task(keep(prompt, lemon.task(token)))
                for _ in range(8):  # readers, so that one slow download does not hold up all
                    group.create_task(read(outcomes))
        finally:  # also after Ctrl-C
            sold |= {task.request.prompt: note_of(task) for task in jobs.pending}
            sold |= {doubt.request.prompt: None for doubt in lemon.unknown_submissions}
            notes.write_text(json.dumps(sold, indent=1), encoding="utf-8")
            (folder / "failed.json").write_text(json.dumps(failed, indent=1), encoding="utf-8")
            if ended:
                await contact_sheet(ended, folder / f"sheet-{datetime.now().astimezone():%Y%m%d-%H%M%S}.html")


if __name__ == "__main__":
    prompts = Path("prompts.txt")
    if not (find_spec("jinja2") and find_spec("tqdm")):
        sys.exit("install the extras of progress bar and sheet: pip install 'lemon-async[notebook,sheet]'")
    if not prompts.is_file():
        sys.exit(f"{prompts} does not exist: write a prompt on each line")
    asyncio.run(batch(prompts, Path("pictures")))

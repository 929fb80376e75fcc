"""What becomes of the results of a command: files, lines on stdout, a page of them all."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._tasks.map import Outcome
from lemon_async.cli.console import complain, note, print_line, say_aside, tell_failure, tell_link
from lemon_async.cli.destination import Destination, prepare_sheet, sheet_problems
from lemon_async.cli.json_lines import failure_record, model_of, picture_record
from lemon_async.cli.stdout import STDOUT, Stdout, json_text, plain, stdout_problems
from lemon_async.errors import LemonError, Problem
from lemon_async.requests import Request
from lemon_async.sheet import contact_sheet

__all__ = ["Delivery", "Wishes"]


@attrs.frozen(kw_only=True)
class Wishes:
    """What the options of a command say about its results; see `options.results`."""

    output: str = "."
    sheet: str | None = None
    as_json: bool = False
    is_quiet: bool = False

    def find_problems(self, *, jobs: int, pictures: int) -> tuple[Problem, ...]:
        """Return why it cannot be so, as far as can be told without making folders."""
        if self.output == STDOUT:
            found = stdout_problems(pictures=pictures)
        else:
            found = Destination.find_problems(self.output, jobs=jobs)
        return (*found, *sheet_problems(self.sheet, self.output))


@attrs.define(kw_only=True)
class Delivery:
    """Hands results over.

    Attributes:
        destination: Where pictures go.
        pick_up: The command that picks a pending task up again, without its id; empty when there is none.
        as_json: Whether stdout gets JSON instead of paths.
        sheet: Where the page of all of them goes, if there is to be one.
        has_reader: Whether lines can still be written to stdout: a pipe may have been closed.
    """

    destination: Destination | Stdout
    pick_up: str = ""
    as_json: bool = False
    sheet: Path | None = None
    has_reader: bool = attrs.field(default=True, init=False)

    @classmethod
    def prepare(cls, wishes: Wishes, *, jobs: int, pick_up: str) -> Self:
        """Make the folders and try to write to them, before anything is paid.

        Raises:
            ContractError: They cannot be written to.
        """
        is_file = wishes.output != STDOUT
        return cls(
            destination=Destination.prepare(wishes.output, jobs=jobs) if is_file else Stdout(),
            pick_up=pick_up,
            as_json=wishes.as_json,
            sheet=prepare_sheet(wishes.sheet) if wishes.sheet else None,
        )

    async def save(self, image: Image, images: Images, request: Request | None, *, label: str, index: int) -> int:
        """Save a picture and print where it is; return the exit code of that."""
        try:
            name = label or image.revised_prompt or ""
            path = await self._saved(image, images, label=name, index=index, model=model_of(request))
        except asyncio.CancelledError:
            if image.url and images.task_id is None:  # no task that could be picked up
                tell_link(image.url)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it never ends the rest
            self._tell_not_saved(error, image, request, label=label, index=index)
            return 1
        line = plain(path)
        if self.as_json:
            line = _json_line(picture_record(image, images, request, index=index, path=path))
        return int(not self._print(line, about=path))

    def refused(self, error: Exception, request: Request | None, *, label: str, index: int) -> int:
        """Tell of a job that ended without pictures; return the exit code of the telling."""
        tell_failure(error, label, self.pick_up, index=index)
        if not self.as_json:
            return 0
        return int(not self._print(_json_line(failure_record(error, request, index=index)), about=label))

    async def write_sheet(self, outcomes: Sequence[Outcome]) -> int:
        """Write the page of what has ended, if there is to be one; return the exit code of that."""
        if self.sheet is None or not outcomes:
            return 0
        try:
            page = await contact_sheet(outcomes, self.sheet)
        except (LemonError, OSError) as error:
            complain(error, "--sheet")
            return 1
        say_aside(f"sheet: {page.path}")
        return 0

    async def _saved(self, image: Image, images: Images, **options: Any) -> Path:
        """Save a picture, in this folder if stdout does not take it: it is paid for.

        Raises:
            LemonError, OSError: It is not where it was to be; `image.path` is where it is now, if it was saved.
        """
        try:
            return await self.destination.save(image, images, **options)
        except OSError as error:
            if not isinstance(self.destination, Stdout):
                raise
            path = await Destination.prepare(".", jobs=1).save(image, images, **options)
            raise OSError(f"stdout did not take the picture ({error}): it is saved as {path}") from error

    def _tell_not_saved(
        self, error: Exception, image: Image, request: Request | None, *, label: str, index: int
    ) -> None:
        complain(error, label)
        if image.url and image.path is None:
            tell_link(image.url)
        if self.as_json:
            self._print(_json_line(failure_record(error, request, index=index, url=image.url)), about=label)

    def _print(self, line: str, *, about: object) -> bool:
        """Print a line to stdout, or to stderr where stdout has the picture; return whether it did not fail."""
        if isinstance(self.destination, Stdout):
            if self.as_json:
                say_aside(line)
        elif self.has_reader:
            try:
                return print_line(line, about=about)
            except BrokenPipeError:
                self.has_reader = False
                note("stdout was closed: nothing more is submitted; what was sold is still waited for and saved")
        return True


def _json_line(record: Mapping[str, Any]) -> str:
    try:
        return json_text(record)
    except RecursionError:  # what the service says of its usage can be anything
        return json_text({**record, "usage": None})

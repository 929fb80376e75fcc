"""Deliver the results of a command: files, lines on stdout, messages on stderr, and a page of all of them."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from lemon_async import Image, Images, LemonError, Outcome
from lemon_async.cli.console import print_error, print_failure, print_link, print_note, print_result, print_status
from lemon_async.cli.destination import Destination, prepare_sheet, sheet_problems
from lemon_async.cli.json_lines import Request, failure_record, model_of, picture_record
from lemon_async.cli.stdout import STDOUT, Stdout, json_text, plain, stdout_problems
from lemon_async.sheet import contact_sheet
from lemon_async.types import Problem

__all__ = ["OutputOptions", "Outputs"]


@attrs.frozen(kw_only=True)
class OutputOptions:
    """The options of a command for its results; see `options.results`."""

    output: str = "."
    sheet: str | None = None
    as_json: bool = False
    is_quiet: bool = False

    def problems(self, *, jobs: int, pictures: int) -> tuple[Problem, ...]:
        """Return everything that is wrong with the options, as far as that can be found out without making folders."""
        if self.output == STDOUT:
            found = stdout_problems(pictures=pictures)
        else:
            found = Destination.find_problems(self.output, jobs=jobs)
        return (*found, *sheet_problems(self.sheet, self.output))


@attrs.define(kw_only=True)
class Outputs:
    """Saves and prints the results of a command.

    Attributes:
        destination: Where pictures go.
        resume_command: The command that resumes a pending task, without its id; empty if there is none.
        as_json: Whether stdout gets JSON instead of paths.
        sheet: Where the page goes, if there is to be one.
        has_reader: Whether stdout still takes lines: a pipe may have been closed.
    """

    destination: Destination | Stdout
    resume_command: str = ""
    as_json: bool = False
    sheet: Path | None = None
    has_reader: bool = attrs.field(default=True, init=False)

    @classmethod
    def prepare(cls, options: OutputOptions, *, jobs: int, resume_command: str) -> Self:
        """Make the folders and try to write to them, before anything is paid for.

        Raises:
            ContractError: They cannot be written to.
        """
        return cls(
            destination=Stdout() if options.output == STDOUT else Destination.prepare(options.output, jobs=jobs),
            resume_command=resume_command,
            as_json=options.as_json,
            sheet=prepare_sheet(options.sheet) if options.sheet else None,
        )

    async def save(self, images: Images, request: Request | None, *, label: str, index: int) -> bool:
        """Save the pictures of a job and print where they are; return whether all of that worked."""
        try:
            ends = await self.destination.save(images, label=label, index=index, model=model_of(request))
        except asyncio.CancelledError:
            for image in images:
                if images.task_id is None and image.path is None and image.url:  # there is no task to resume
                    print_link(image.url)
            raise
        except Exception as error:  # noqa: BLE001 - a bug costs one job, not all that are paid for
            ends = [error] * len(images)
        is_saved = True
        for image, end in zip(images, ends, strict=True):
            number = index + image.index
            if isinstance(end, Path):
                is_saved &= self._print_saved(image, images, request, index=number, path=end)
            else:
                self._print_unsaved(end, image, request, label=label, index=number)
                is_saved = False
        return is_saved

    def print_failure(self, error: Exception, request: Request | None, *, label: str, index: int) -> None:
        """Print why a job ended without pictures."""
        print_failure(error, label, self.resume_command, index=index)
        if self.as_json:
            self._print(_json_line(failure_record(error, request, index=index)), about=label)

    async def write_sheet(self, outcomes: Sequence[Outcome]) -> int:
        """Write the page of the jobs that have ended, if there is to be one; return an exit code."""
        if self.sheet is None or not outcomes:
            return 0
        try:
            page = await contact_sheet(outcomes, self.sheet)
        except (LemonError, OSError) as error:
            print_error(error, "--sheet")
            return 1
        print_status(f"sheet: {page.path}")
        return 0

    def _print_saved(self, image: Image, images: Images, request: Request | None, *, index: int, path: Path) -> bool:
        line = plain(path)
        if self.as_json:
            line = _json_line(picture_record(image, images, request, index=index, path=path))
        return self._print(line, about=path)

    def _print_unsaved(
        self, error: Exception, image: Image, request: Request | None, *, label: str, index: int
    ) -> None:
        print_error(error, label)
        if image.url and image.path is None:
            print_link(image.url)
        if self.as_json:
            self._print(_json_line(failure_record(error, request, index=index, url=image.url)), about=label)

    def _print(self, line: str, *, about: object) -> bool:
        """Print a line to stdout, or to stderr where stdout has the picture; return whether it did not fail."""
        if isinstance(self.destination, Stdout):
            if self.as_json:
                print_status(line)
        elif self.has_reader:
            try:
                return print_result(line, about=about)
            except BrokenPipeError:
                self.has_reader = False
                print_note("stdout was closed: nothing more is submitted; jobs that were submitted are saved")
        return True


def _json_line(record: Mapping[str, Any]) -> str:
    try:
        return json_text(record)
    except RecursionError:  # the service's usage data can be anything
        return json_text({**record, "usage": None})

"""The work of `generate`, `edit` and `task`: check everything, then submit or resume and save."""

import shlex
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from lemon_async import EditRequest, GenerateRequest, ImageTask, LemonSession
from lemon_async.cli.arguments import STDIN, Reference, read_extra, read_lines
from lemon_async.cli.destination import overwriting_problems
from lemon_async.cli.jobs import resume_tasks, submit_requests
from lemon_async.cli.json_lines import Request
from lemon_async.cli.outputs import OutputOptions, Outputs
from lemon_async.cli.runner import SessionOptions, options_from, problems_of, raise_problems, run_command
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["resume", "submit"]

_TABLES = (".csv", ".jsonl", ".parquet")
_KINDS: dict[str, Callable[..., Request]] = {"generate": GenerateRequest, "edit": EditRequest}


def submit(operation: str, *, prompts: Sequence[str], prompts_file: str | None, **given: Any) -> None:
    """Run `generate` or `edit`: submit a request for each prompt, and save its pictures. Spends money."""
    session, output = options_from(SessionOptions, given), options_from(OutputOptions, given)

    def work() -> Coroutine[Any, Any, int]:
        _refuse_table(prompts_file)
        # Before there is an event loop, whose Ctrl-C would not end the reading.
        read, problems = read_lines(prompts_file, option="--prompts", noun="prompt")
        return _submit(_KINDS[operation], session, output, prompts=(*prompts, *read), problems=problems, **given)

    run_command(work)


def resume(*, words: Sequence[str], **given: Any) -> None:
    """Run `task`: wait for tasks, and save their pictures. Spends nothing."""
    session, output = options_from(SessionOptions, given), options_from(OutputOptions, given)

    def work() -> Coroutine[Any, Any, int]:
        read, problems = read_lines(STDIN if STDIN in words else None, option="ID", noun="task")
        unique = dict.fromkeys(word for word in (*words, *read) if word != STDIN)
        return _resume(session, output, [Reference.parse(word) for word in unique], problems)

    run_command(work)


def _refuse_table(prompts_file: str | None) -> None:
    """Refuse a file of rows, each line of which would be bought as a prompt, the header included.

    Raises:
        ContractError: With the command that reads such files.
    """
    if prompts_file is not None and prompts_file.lower().endswith(_TABLES):
        journal = f"{Path(prompts_file).stem}.db"
        command = shlex.join(["lemon-async", "batch", "run", prompts_file, "--journal", journal])
        raise ContractError.of("--prompts", f"{prompts_file!r} holds rows, not a prompt on each line: use `{command}`")


async def _submit(
    kind: Callable[..., Request],
    session: SessionOptions,
    output: OutputOptions,
    *,
    prompts: Sequence[str],
    problems: Sequence[Problem],
    extra: Sequence[str],
    no_check: bool,
    in_flight: int,
    **fields: Any,
) -> int:
    unknown, extra_problems = read_extra(extra)
    sources = {f"--image {number}": source for number, source in enumerate(fields.get("image", ()), 1)}
    if fields.get("mask"):
        sources["--mask"] = fields["mask"]
    # Without a prompt there is a problem already, which is reported with the others.
    requests = [kind(prompt, extra=unknown, **fields) for prompt in prompts or ("none",)]
    raise_problems(
        [
            *problems,
            *extra_problems,
            *(problem for each in requests for problem in LemonSession.validate(each, check_contracts=not no_check)),
            *output.problems(jobs=len(requests), pictures=sum(request.n or 1 for request in requests)),
            *overwriting_problems(output.output, sources),
            *session.problems(),
        ]
    )
    outputs = Outputs.prepare(output, jobs=len(requests), resume_command=session.resume_command(output.output))
    async with session.open() as lemon:
        return await submit_requests(
            lemon,
            requests,
            outputs,
            check_contracts=not no_check,
            in_flight=in_flight,
            has_bar=not output.is_quiet,
        )


async def _resume(
    session: SessionOptions, output: OutputOptions, references: Sequence[Reference], problems: Sequence[Problem]
) -> int:
    number = len(references)
    found = [*problems, *output.problems(jobs=number, pictures=number)]
    if settings := session.problems():
        raise_problems([*found, *settings])
    async with session.open() as lemon:
        tasks: list[tuple[ImageTask, Reference]] = []
        for reference in references:  # nothing is sent before this coroutine awaits something
            wrong = problems_of(lambda: tasks.append((lemon.task(reference.task), reference)))  # noqa: B023 - run here
            found += (Problem(f"task {reference.task!r}", problem.message) for problem in wrong)
        raise_problems(found)
        outputs = Outputs.prepare(output, jobs=number, resume_command=session.resume_command(output.output))
        return await resume_tasks(tasks, lemon, outputs, has_bar=not output.is_quiet)

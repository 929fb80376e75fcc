"""Declare `batch` and its commands. Each imports its work when it runs: `--help` and completion need none of it."""

from collections.abc import Sequence
from typing import Any

import click

from lemon_async.cli import options

__all__ = ["batch"]

FORMATS = ("imagefolder", "webdataset", "csv", "jsonl", "parquet")

_journal = click.argument("journal", metavar="JOURNAL", shell_complete=options.complete_files)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def batch() -> None:
    """Buy the rows of a file, each at most once, through kills and restarts."""


@batch.command(short_help="Buy rows, each once; run it again to continue.")
@click.argument("rows", required=False, metavar="[ROWS]", shell_complete=options.complete_files)
@click.option(
    "--journal",
    required=True,
    metavar="FILE|URL",
    shell_complete=options.complete_files,
    help="Where the state of every row is kept, prompts included; made if there is none. A postgresql:// URL names one "
    "that any number of processes may run at a time.",
)
@click.option("--key", metavar="COLUMN", help="The column that identifies a row; by default its whole content does.")
@click.option(
    "-m",
    "--model",
    multiple=True,
    shell_complete=options.complete_models,
    help="Model id of rows that name none; repeatable: every row then goes to every model.",
)
@click.option(
    "-o",
    "output",
    metavar="PATH",
    shell_complete=options.complete_files,
    help="A folder, or a template of names such as 'out/{category}/{key}' (any column; also index, slug, model, "
    "task_id, created, format, width, height). Nothing is replaced.  [default: this folder, named after the key]",
)
@options.in_flight
@click.option(
    "--budget-usd",
    type=float,
    metavar="USD",
    help="Most money that the journal may ever commit to; needs prices.",
)
@click.option(
    "--price-usd",
    multiple=True,
    metavar="[MODEL=]USD",
    help="Price of a picture, or MODEL=USD for each model; by default learned from what the service bills.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="NUMBER",
    help="How often a row is bought whose tasks fail; the service does not bill those.",
)
@click.option("--dry-run", is_flag=True, help="Only say rows, problems and price. Needs no key, writes nothing.")
@click.option("--provenance", is_flag=True, help="Write prompt, model and task id into the pictures.")
@options.sheet
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each row instead of paths.")
@options.no_progress
@options.image(is_required=False)
@options.mask
@options.field_options("generate")
@options.emulator
@options.connection
@options.pacing
def run(**given: Any) -> None:
    """Buy a picture for each of ROWS and save it. Run the same command again to continue.

    ROWS is a .csv, .jsonl or .parquet file, or - for JSON lines on stdin; without it, the batch continues with the rows
    of the journal. Columns that are fields of a request, such as prompt, model and size, are used; options are the
    defaults of cells that are empty. Everything is checked before anything is bought. Spends money, unless --emulator
    is given.
    """
    from lemon_async.cli.batch.run import run as run_batch

    run_batch(**given)


@batch.command(short_help="Count rows by state, and sum up the money.")
@_journal
@_as_json
def status(**given: Any) -> None:
    """Count the rows of JOURNAL, a file or a postgresql:// URL, by state, and sum up its money.

    Works beside a running batch, too.
    """
    from lemon_async.cli.batch.journals import show_status

    show_status(**given)


@batch.command(short_help="Serve a live page of a batch.")
@_journal
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="NUMBER", help="[default: any free port]")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen on.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Only print the summary, once.")
def watch(**given: Any) -> None:
    """Serve a page of JOURNAL, a file or a postgresql:// URL, until Ctrl-C: pictures, states, money and failures.

    It is live while a batch runs, and works before and after it. It is read-only: it never changes the journal, and
    neither delays a batch nor keeps one from starting.
    """
    from lemon_async.cli.batch.watch import watch as watch_batch

    watch_batch(**given)


@batch.command(short_help="List the rows that may have been sold.")
@_journal
@_as_json
def doubtful(**given: Any) -> None:
    """List the rows that may have been sold: key (quoted for a shell), time (UTC), price, fingerprint, prompt.

    They are not sent again by themselves: look in your account, then decide with `resolve`.
    """
    from lemon_async.cli.batch.journals import show_doubtful

    show_doubtful(**given)


@batch.command(short_help="Decide about doubtful rows.")
@_journal
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--task", metavar="ID", help="It was sold as this task, which the next run waits for; for one KEY.")
@click.option("--not-sold", is_flag=True, help="It was not sold: the next run buys it.")
@click.option("--buy-again", is_flag=True, help="It may have been sold: the next run buys it all the same.")
def resolve(*, keys: Sequence[str], task: str | None, not_sold: bool, buy_again: bool, **given: Any) -> None:
    """Decide about doubtful rows: exactly one of --task, --not-sold and --buy-again; - reads KEYs from stdin.

    Spends nothing itself: the next `batch run` does what you decide.
    """
    if (task is not None) + not_sold + buy_again != 1:
        raise click.UsageError("Give exactly one of --task, --not-sold and --buy-again.")
    if task is not None and (len(keys) > 1 or "-" in keys):
        raise click.UsageError("--task is for one KEY.")
    from lemon_async.cli.batch.journals import resolve_rows

    resolve_rows(keys=keys, task=task, is_bought_again=buy_again, **given)


@batch.command(short_help="Have the next run buy dead or refused rows again.")
@_journal
@click.argument("keys", nargs=-1, metavar="[KEY]...")
def retry(**given: Any) -> None:
    """Have the next run buy rows again: each KEY that is dead, refused or failed; - reads KEYs from stdin.

    Without a KEY, all dead rows: refused ones would be refused again. Spends nothing itself.
    """
    from lemon_async.cli.batch.journals import retry_rows

    retry_rows(**given)


@batch.command(short_help="Write a dataset of the pictures, or a table of the rows.")
@_journal
@click.argument("destination", metavar="DEST", shell_complete=options.complete_files)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="parquet needs the extra of that name.",
)
def export(**given: Any) -> None:
    """Write the finished rows of JOURNAL and their pictures to the folder DEST, as a dataset, or all rows as a table.

    imagefolder (of Hugging Face datasets) and webdataset take pictures; csv, jsonl and parquet are one file DEST. An
    earlier export there is replaced, and nothing else is. Pictures that are missing or have changed are named.
    """
    from lemon_async.cli.batch.journals import export_rows

    export_rows(**given)

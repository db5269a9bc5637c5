"""``hastack logs parse``."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import InvalidArgument

from ._logs import clean_end, parser_of, plain_count, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click
    from rich.console import Console
    from rich.text import Text

    from hastack.observe.logs import Account, Engine, Parsed
    from hastack.observe.logs.sources import Source
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Text = require("rich.text", extra="cli").Text

__all__ = ("parse",)

_KINDS = ("email", "token", "card", "secret", "random", "ip")
_ACTIONS = ("mask", "hash", "keep")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--follow", "-f", is_flag=True, help="Go on as FILE grows and is rotated.")
@click.option("--checkpoint", type=click.Path(), help="With --follow: go on where it says.")
@click.option("--where", metavar="EXPR", help='Such as "status >= 500 and took > 250ms".')
@click.option("--format", "formats", multiple=True, help="Only this format; repeat.")
@click.option(
    "--out",
    type=click.Choice(["json", "text", "parquet", "none"]),
    default="json",
    show_default=True,
    help="JSON lines, for people, Parquet files, or only the account.",
)
@click.option("--to", type=click.Path(), help="A file, with parquet a directory.")
@click.option("--rejects", type=click.Path(), help="Where lines of no known format go.")
@click.option("--schema", type=click.Path(exists=True), help="Apply what infer --save wrote.")
@click.option(
    "--redact",
    "redactions",
    multiple=True,
    metavar="KIND[=ACTION]",
    help="all, email, token, card, secret, random, ip; mask, hash or keep. Repeat.",
)
@click.option("--redact-key", type=click.Path(exists=True), help="File with the key for hash.")
@click.option("--fold", is_flag=True, help="Put tracebacks and other entries of lines together.")
@click.option("--templates", is_flag=True, help="Find templates in lines of no known format.")
@click.option("--processes", default=1, show_default=True, help="Processes that parse.")
@click.option("--strict", is_flag=True, help="Exit with 1 when a line was rejected, too.")
@click.option("--quiet", "-q", is_flag=True, help="No account, no progress.")
def parse(files: tuple[str, ...], **options: Any) -> None:
    """Make records of the lines of FILE and write them to standard output.

    The account of every line goes to standard error. Exit status: 0 all was read; 1 something was
    damaged, cut or lost, or with --strict rejected; 2 wrong usage, or a file that cannot be read;
    130 after Ctrl-C (0 with --follow); 141 when nobody reads the output.
    """
    clean_end(lambda: _parse(files, **options))


def _parse(
    files: tuple[str, ...],
    *,
    follow: bool,
    checkpoint: str | None,
    formats: tuple[str, ...],
    strict: bool,
    quiet: bool,
    **options: Any,
) -> int:
    parser_of(formats)  # a name that is not known is a mistake here rather than in a process
    parser = partial(_parser, formats or None, templates=options["templates"])
    source = _source(files, follow=follow, checkpoint=checkpoint)
    engine = _engine(source, parser, **options)
    began = time.monotonic()
    with ExitStack() as stack:
        sink = stack.enter_context(_sink(**options))
        asked = stack.enter_context(_ends_on_signals(engine))
        if (
            not quiet
            and not follow
            and sys.stderr.isatty()
            and (options["to"] is not None or options["out"] == "none" or not sys.stdout.isatty())
        ):
            stack.enter_context(_progress(engine))
        account = engine.run(sink)
    if not quiet:
        _tell(account, time.monotonic() - began)
    if asked and not follow:
        return 130
    return 1 if not account.complete or (strict and account.rejects) else 0


def _source(files: tuple[str, ...], *, follow: bool, checkpoint: str | None) -> Source:
    if not follow:
        if checkpoint is not None:
            raise click.UsageError("--checkpoint needs --follow")
        return source_of(files)
    from hastack.observe import logs

    if "-" in files:
        return source_of(files)
    try:
        return logs.Follow(*files, checkpoint=checkpoint)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _parser(formats: tuple[str, ...] | None, *, templates: bool) -> Any:
    from hastack.observe import logs

    return logs.Parser(formats, templates=logs.TemplateMiner(header=None) if templates else None)


def _engine(
    source: Source,
    parser: Any,
    *,
    where: str | None,
    schema: str | None,
    redactions: tuple[str, ...],
    redact_key: str | None,
    fold: bool,
    processes: int,
    formats: tuple[str, ...] = (),
    **_: Any,
) -> Engine:
    from hastack.observe import logs

    test = None
    if where is not None:
        try:
            test = logs.Where(where)
        except logs.WhereMistake as mistake:
            raise click.UsageError(f"--where\n{mistake.drawn()}") from None
    try:
        return logs.Engine(
            source,
            parser=parser,
            stages=[logs.Schemas.load(schema)] if schema is not None else (),
            where=test,
            redact=_redactor(redactions, redact_key),
            fold=logs.Folder() if fold else None,
            processes=processes,
        )
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


def _redactor(redactions: tuple[str, ...], key_file: str | None) -> Any:
    if not redactions:
        return None
    from pathlib import Path

    from hastack.observe import logs

    actions: dict[str, Any] = dict.fromkeys(_KINDS, "keep")
    for each in redactions:
        kind, _, action = each.partition("=")
        if kind not in {*_KINDS, "all"} or (action or "mask") not in _ACTIONS:
            kinds = ", ".join(("all", *_KINDS))
            raise click.UsageError(f"--redact {each}: expected one of {kinds}, and =mask or =hash")
        for name in _KINDS if kind == "all" else (kind,):
            actions[name] = action or "mask"
    key = Path(key_file).read_bytes().strip() if key_file is not None else None
    if "hash" in actions.values() and key is None:
        raise click.UsageError("--redact KIND=hash needs --redact-key FILE")
    return logs.Redactor(key=key, **actions)


@contextmanager
def _sink(*, out: str, to: str | None, rejects: str | None, **_: Any) -> Iterator[Any]:
    from hastack.observe import logs

    if out == "parquet":
        if to is None:
            raise click.UsageError("--out parquet needs --to DIRECTORY")
        with logs.Arrow(to) as sink:
            yield sink
        return
    if out == "none":
        yield _ignored
        return
    if out == "text":
        yield _People(to)
        return
    sys.stdout.flush()
    with logs.JsonLines(to if to is not None else 1, format_key="format", rejects=rejects) as sink:
        yield sink


def _ignored(batch: Parsed) -> None:
    """Only the account counts."""


class _People:
    """Records for people: a line each, the format first."""

    def __init__(self, to: str | None) -> None:
        self._file = open(to, "a", encoding="utf-8") if to is not None else None  # noqa: PTH123, SIM115
        self._console = Console(file=self._file, highlight=False, soft_wrap=True)

    def write(self, batch: Parsed) -> None:
        for known, record in zip(batch.formats, batch.records, strict=True):
            text = Text.assemble((known.name, "bold"))
            for name, value in record.items():
                if value is not None:
                    text.append(f"  {name}=", style="dim")
                    text.append(str(value), style="cyan")
            self._console.print(text)

    def flush(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def _ends_on_signals(engine: Engine) -> Iterator[list[int]]:
    """The first Ctrl-C ends the run in order, the second at once."""
    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt
        engine.stop()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _progress(engine: Engine) -> Iterator[None]:
    """A bar on standard error, drawn by a thread of its own."""
    progress = require("rich.progress", extra="cli")
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[lines]} lines"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    done = threading.Event()
    task = bar.add_task("parsing", total=None, lines="0")

    def draw() -> None:
        while not done.wait(0.1):
            read, total = engine.progress
            bar.update(
                task, completed=read, total=total or None, lines=plain_count(engine.account().lines)
            )

    thread = threading.Thread(target=draw, name="hastack-logs-progress", daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(1.0)


def _tell(account: Account, took: float) -> None:
    rate = account.lines / took if took > 0 else 0.0
    count = plain_count
    parts = [
        (
            f"{count(account.lines)} lines = {count(account.records)} records"
            f" + {count(account.rejects)} rejects"
        )
    ]
    if account.filtered:
        parts.append(f"{count(account.records - account.filtered)} chosen")
    parts.append(f"{account.bytes_read / 1e6:,.1f} MB in {took:.1f} s ({count(rate)} lines/s)")
    click.echo(", ".join(parts), err=True)
    for title, counts in (
        ("formats", account.by_format),
        ("rejects", account.by_reason),
        ("cleaned", account.cleaned),
        ("dropped", account.dropped),
    ):
        if counts and (title != "formats" or len(counts) > 1):
            most = sorted(counts.items(), key=lambda pair: -pair[1])[:8]
            shown = ", ".join(f"{name} {count(number)}" for name, number in most)
            click.echo(f"  {title}: {shown}", err=True)
    if account.cut_lines:
        click.echo(f"  cut: {count(account.cut_lines)} lines too long", err=True)
    for name, reason in account.damaged.items():
        click.echo(f"  {name}: {reason}; what could be read was", err=True)

"""``hastack logs``: lines to records, and what their schemas, formats and templates are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import InvalidArgument, MissingDependency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click

    from hastack.observe.logs.sources import Source
else:
    click = require("click", extra="cli")

__all__ = ("NOTHING", "clean_end", "lines_of", "logs", "parser_of", "plain_count", "source_of")

NOTHING = "no lines: the input is empty"

# name -> (module, attribute, what the help says of it); each loads when it is asked for.
_COMMANDS = {
    "explain": ("_logs_explain", "explain", "Which format a line has, and why not another."),
    "infer": ("_logs_infer", "infer", "The schema of each format in a file."),
    "parse": ("_logs_parse", "parse", "Lines to records: JSON, Parquet, or for people."),
    "templates": ("_logs_templates", "templates", "What is fixed in lines, and what varies."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return None
        module = importlib.import_module(f"{__package__}.{home[0]}")
        command: click.Command = getattr(module, home[1])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


@click.group(cls=_LazyGroup)
def logs() -> None:
    """Make records of log lines, of any known format and in any mixture.

    FILE may be compressed (gzip, bzip2, xz, zstd); - is standard input.
    """


def source_of(files: tuple[str, ...]) -> Source:
    """The source of files, or an end that says what is wrong with them."""
    from hastack.observe.logs import sources

    if files == ("-",):
        return sources.Stream(name="standard input")
    if "-" in files:
        raise click.UsageError("standard input (-) stands alone")
    return sources.Files(*files)


def lines_of(source: Source) -> Iterator[str | bytes]:
    """The lines of a source, one by one."""
    from hastack.observe.logs._batching import Batching
    from hastack.observe.logs._lines import lines_of as split

    for chunk in source.chunks(Batching()):
        if chunk is not None:
            yield from chunk.lines if chunk.data is None else split(chunk.data)


def parser_of(formats: tuple[str, ...]) -> Any:
    """A parser of these formats, or of all."""
    from hastack.observe import logs as face

    try:
        return face.Parser(formats or None)
    except InvalidArgument as error:
        raise click.UsageError(f"--format: {error}") from None


def plain_count(number: float) -> str:
    """A number for people: 1,234,567."""
    return f"{number:,.0f}"


def clean_end(run: Callable[[], int]) -> None:
    """Run a command, and end as is the custom: no traceback for what happens to programs.

    Exit status: what ``run`` says; 2 with a message for wrong input; 130 after Ctrl-C; 141 when
    nobody reads the output any more.
    """
    import os
    import sys

    try:
        status = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except KeyboardInterrupt:
        status = 130
    except (OSError, InvalidArgument, MissingDependency) as error:
        click.echo(f"hastack: {_said(error)}", err=True)
        status = 2
    click.get_current_context().exit(status)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)

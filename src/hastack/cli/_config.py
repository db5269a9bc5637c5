"""``hastack config``: check files, show what is in force, describe what is accepted."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import attrs

from hastack import config as configuration
from hastack._config._describe import plain
from hastack._core._extras import require
from hastack.errors import ConfigError, ConfigMistake, InvalidArgument

if TYPE_CHECKING:
    import click
else:
    click = require("click", extra="cli")

__all__ = ("SettingsClass", "config", "know_all_sections", "line_of", "mistakes_of")


WITH_SECTIONS = ("hastack.observe", "hastack.observe.logs", "hastack.wasm")
"""Packages that add a table of their own to the configuration; importing one brings nothing else."""


class SettingsClass(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """``module:Class``, imported with the current directory on the path."""

    name = "module:Class"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> type[Any]:
        module, _, attribute = str(value).partition(":")
        if not module or not attribute:
            self.fail(f"{value!r} is not of the form module:Class", param, ctx)
        here = os.getcwd()  # noqa: PTH109  # sys.path holds text
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            self.fail(f"{value!r} cannot be imported: {error}", param, ctx)
        except Exception as error:  # the application's own, at import
            kind = type(error).__name__
            self.fail(f"{value!r} cannot be imported: {kind}: {error}", param, ctx)
        if not (isinstance(found, type) and attrs.has(found)):
            self.fail(f"{value!r} is no attrs class", param, ctx)
        return found


_into = click.option(
    "--into",
    type=SettingsClass(),
    default="hastack.config:Config",
    show_default=True,
    help="Settings class of the application, as module:Class.",
)
_prefix = click.option(
    "--env-prefix", default="HASTACK_", show_default=True, help="Which variables are settings."
)
_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
_files = click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE]...")


@click.group()
def config() -> None:
    """Check, show and describe configuration.

    Several files lie on top of each other: later ones win, key by key.
    """


@config.command()
@_files
@click.option("--env/--no-env", default=False, help="Check the environment as well.")
@_prefix
@_into
@_format
@click.pass_context
def check(
    ctx: click.Context,
    files: tuple[str, ...],
    env: bool,
    env_prefix: str,
    into: type[Any],
    form: str,
) -> None:
    """Report every mistake in FILEs with its line; exit with 1 when there is one."""
    if not files and not env:
        raise click.UsageError("nothing to check: give files, or --env")
    mistakes: tuple[ConfigMistake, ...] = ()
    try:
        _guarded(configuration.load, files, env, env_prefix, into)
    except ConfigError as error:
        mistakes = mistakes_of(error, files)
    if form == "json":
        click.echo(json.dumps([_as_json(mistake) for mistake in mistakes], indent=2))
    else:
        _print_mistakes(mistakes)
        if not mistakes:
            click.echo(f"{', '.join(files) or 'environment'}: no mistakes")
    ctx.exit(1 if mistakes else 0)


@config.command()
@_files
@click.option("--env/--no-env", default=True, show_default=True, help="Read the environment.")
@_prefix
@_into
@_format
@click.pass_context
def show(
    ctx: click.Context,
    files: tuple[str, ...],
    env: bool,
    env_prefix: str,
    into: type[Any],
    form: str,
) -> None:
    """Print every value in force and where it comes from; secrets are masked."""
    try:
        settings = _guarded(configuration.explain, files, env, env_prefix, into)
    except ConfigError as error:
        _print_mistakes(mistakes_of(error, files), err=True)
        ctx.exit(1)
    if form == "json":
        rows = [{"path": s.path, "value": plain(s.value), "source": s.source} for s in settings]
        click.echo(json.dumps(rows, indent=2))
        return
    lines = [(f"{s.path} = {_as_text(s.value)}", s.source) for s in settings]
    width = min(60, max((len(left) for left, _ in lines), default=0))
    for left, source in lines:
        click.echo(f"{left:<{width}}  # {source}")


@config.command()
@_into
def schema(into: type[Any]) -> None:
    """Print the JSON Schema (draft 2020-12) of the settings."""
    know_all_sections()
    try:
        click.echo(json.dumps(configuration.schema(into), indent=2))
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


def know_all_sections() -> None:
    """Import the packages that add tables, so that these are no unknown keys."""
    for package in WITH_SECTIONS:
        importlib.import_module(package)


def _guarded(call: Any, files: tuple[str, ...], env: bool, env_prefix: str, into: type[Any]) -> Any:
    know_all_sections()
    variables = os.environ if env else None
    try:
        return call(*files, into=into, env=variables, env_prefix=env_prefix)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


def mistakes_of(error: ConfigError, files: tuple[str, ...]) -> tuple[ConfigMistake, ...]:
    """The mistakes in the order in which somebody reads the files; what comes from elsewhere last."""
    found = [each for each in error.exceptions if isinstance(each, ConfigMistake)]

    def place(mistake: ConfigMistake) -> tuple[int, int]:
        name, _, line = (mistake.source or "").rpartition(":")
        if name in files and line.isdecimal():
            return files.index(name), int(line)
        return len(files), 0

    return tuple(sorted(found, key=place))


def _print_mistakes(mistakes: tuple[ConfigMistake, ...], *, err: bool = False) -> None:
    for mistake in mistakes:
        click.echo(line_of(mistake), err=err)
    if mistakes:
        count = len(mistakes)
        click.echo(f"{count} mistake{'s' if count != 1 else ''}", err=True)


def line_of(mistake: ConfigMistake) -> str:
    """What is said of a mistake, its place first."""
    accepted = f" (accepted: {mistake.accepted})" if mistake.accepted else ""
    place = f"{mistake.source}: " if mistake.source else ""
    return f"{place}{mistake.path}: {mistake.problem}{accepted}"


def _as_json(mistake: ConfigMistake) -> dict[str, str | None]:
    return {
        "path": mistake.path,
        "problem": mistake.problem,
        "accepted": mistake.accepted,
        "source": mistake.source,
    }


def _as_text(value: object) -> str:
    """A value in TOML's notation, with ``none`` where TOML has nothing."""
    return "none" if value is None else json.dumps(plain(value), ensure_ascii=False)

"""``hastack observe check``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import InvalidArgument

from ._observe import settings_of
from ._observe_ask import ask_backend, ask_page

if TYPE_CHECKING:
    import click

    from hastack.observe import ObserveConfig
else:
    click = require("click", extra="cli")

__all__ = ("check",)


@click.command()
@click.option("--config", "files", multiple=True, type=click.Path(), help="Settings file; repeat.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds for one request.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Send an empty request to each backend; exit with 1 when one is not well."""
    settings = settings_of(files)
    if not settings.backends and not settings.prometheus.enabled:
        raise click.UsageError("no backends are configured: give --config, or set the environment")
    rows = _rows(settings, timeout)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            mark = "ok  " if row["ok"] else "FAIL"
            click.echo(f"{mark} {row['backend']} {row['signal']} {row['endpoint']}: {row['says']}")
    ctx.exit(0 if all(row["ok"] for row in rows) else 1)


def _rows(settings: ObserveConfig, timeout: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    name = ""
    try:
        for name, backend in settings.backends.items():
            rows += ask_backend(name, backend, timeout)
        name = "prometheus"
        if settings.prometheus.enabled:
            rows.append(ask_page(settings.prometheus, timeout))
    except InvalidArgument as error:
        raise click.UsageError(f"{name}: {error}") from None
    return rows

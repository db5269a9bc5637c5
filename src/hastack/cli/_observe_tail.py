"""``hastack observe tail``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hastack._core._extras import require
from hastack.observe._status import as_json, read_status

from ._observe import settings_of

if TYPE_CHECKING:
    import click

    from hastack.observe._account import Account
    from hastack.observe._status import Status
else:
    click = require("click", extra="cli")

__all__ = ("tail",)


@click.command()
@click.option("--config", "files", multiple=True, type=click.Path(), help="Settings file; repeat.")
@click.option(
    "--status",
    "directory",
    type=click.Path(path_type=Path),
    help="Directory of the accounts; observe.status of the settings by default.",
)
@click.option("--every", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--count", type=int, help="Looks; without it until Ctrl-C.")
@click.option("--json", "as_lines", is_flag=True, help="One JSON object per look.")
def tail(
    files: tuple[str, ...], directory: Path | None, every: float, count: int | None, as_lines: bool
) -> None:
    """Show what running processes emit, send and lose, live.

    Processes write their accounts when observe.status names a directory.
    """
    where = directory or settings_of(files).status
    if where is None:
        raise click.UsageError("observe.status is not set: give --status or --config")
    before: dict[tuple[int, str], tuple[float, Account]] = {}
    looks = 0
    while count is None or looks < count:
        if looks:
            time.sleep(every)
        looks += 1
        found = read_status(Path(where))
        if as_lines:
            click.echo(json.dumps([_plain(status) for status in found]))
        elif not found:
            click.echo(f"no process writes to {where}")
        for status in [] if as_lines else found:
            for name, account in status.accounts.items():
                _line(status, name, account, before)


def _line(
    status: Status,
    name: str,
    account: Account,
    before: dict[tuple[int, str], tuple[float, Account]],
) -> None:
    last = before.get((status.pid, name))
    before[status.pid, name] = status.at, account
    rate = ""
    if last is not None and status.at > last[0]:
        seconds = status.at - last[0]
        emitted = (account.emitted - last[1].emitted) / seconds
        sent = (account.sent - last[1].sent) / seconds
        rate = f" | {emitted:.0f}/s in, {sent:.0f}/s out"
    ended = "" if status.alive else " (ended)"
    click.echo(f"{status.service or '?'} {status.pid}{ended} {name}: {account}{rate}")


def _plain(status: Status) -> dict[str, object]:
    return {
        "pid": status.pid,
        "service": status.service,
        "at": status.at,
        "alive": status.alive,
        "accounts": {name: as_json(account) for name, account in status.accounts.items()},
    }

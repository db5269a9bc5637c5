"""``hastack discovery federate``."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import attrs

from hastack import events
from hastack._core._extras import require
from hastack.errors import InvalidArgument

from ._discovery import line, run

if TYPE_CHECKING:
    import click
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from hastack.discovery import Store
    from hastack.discovery.federation import Forwarder, Status
    from hastack.events import Event
else:
    click = require("click", extra="cli")
    Console = require("rich.console", extra="cli").Console
    Live = require("rich.live", extra="cli").Live
    Table = require("rich.table", extra="cli").Table

__all__ = ("federate", "open_store")

_EVERY = 1.0  # seconds between two lines when nobody looks at a terminal
_REFRESH = 0.25


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="URL",
    help="Store to read, etcd://HOST:PORT,HOST:PORT for example.",
)
@click.option("--to", "destination", required=True, metavar="URL", help="Store to write.")
@click.option(
    "--origin",
    help="What the services of --from register under; by default the one name found there.",
)
@click.option("--namespace", "namespaces", multiple=True, help="Only this one; repeatable.")
@click.option(
    "--policy",
    type=click.Choice(["keep", "drain", "revoke"]),
    default="keep",
    show_default=True,
    help="What becomes of the instances when --from stays out of reach.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0.0),
    default=300.0,
    show_default=True,
    help="Seconds until --policy is carried out.",
)
@click.option(
    "--coalesce",
    type=click.FloatRange(0.0),
    default=5.0,
    show_default=True,
    help="Seconds for which later changes of a flapping instance are bundled.",
)
@click.option("--rate", default="5000/s", show_default=True, help="Most writes to --to.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per second and event.")
def federate(
    source: str,
    destination: str,
    origin: str | None,
    namespaces: tuple[str, ...],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Mirror what is registered in one cluster into another, until Ctrl-C or SIGTERM.

    On a terminal a live table, elsewhere a line when something changes. What is mirrored stays
    when this ends; started again, it goes on where it stopped. Another one of the same origin
    takes over from this one, which then stands by.
    """
    try:
        stores = open_store(source), open_store(destination)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    show = _Json() if as_json else _Live() if sys.stdout.isatty() else _Lines()
    run(_federate(*stores, origin, show, {"namespaces": namespaces or None, **options}))


def open_store(url: str) -> Store:
    """The store at ``url``.

    Raises:
        InvalidArgument: It is none.
    """
    scheme = url.partition("://")[0]
    if scheme == "memory":
        from hastack.discovery import memory

        return memory.connect(url)
    if scheme in {"etcd", "etcds"}:
        from hastack.discovery import etcd

        return etcd.connect(url)
    raise InvalidArgument("url", url, "etcd://, etcds:// or memory://")


async def _federate(
    source: Store,
    destination: Store,
    origin: str | None,
    show: _Lines | _Json | _Live,
    options: dict[str, Any],
) -> None:
    from hastack.discovery.federation import Forwarder

    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, told.set)
    try:
        name = origin or await _only_origin(source)
        try:
            forwarder = Forwarder(source, destination, origin=name, **options)
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from None
        with show.shown(forwarder), _watched(show):
            async with forwarder:
                while not told.is_set():
                    show.status(forwarder.status())
                    try:
                        await asyncio.wait_for(told.wait(), show.every)
                    except TimeoutError:
                        pass
            show.status(forwarder.status())
    finally:
        await source.aclose()
        await destination.aclose()


async def _only_origin(source: Store) -> str:
    """The one name that is registered under; says what to do when there is none or several."""
    from hastack.discovery._layout import REGISTERED, InstanceKey, origin_prefix
    from hastack.discovery._records import prefix_end

    found: list[str] = []
    key, end = REGISTERED, prefix_end(REGISTERED)
    while len(found) < 10:
        page = await source.range(key, end=end, limit=1, keys_only=True, timeout=10.0)
        if not page.kvs:
            break
        parsed = InstanceKey.parse(page.kvs[0].key)
        if parsed is None:
            key = page.kvs[0].key + b"\0"
            continue
        found.append(parsed.origin)
        key = prefix_end(origin_prefix("reg", parsed.origin))
    if len(found) == 1:
        return found[0]
    what = f"several names register there: {', '.join(found)}" if found else "nothing is registered"
    raise click.UsageError(f"{what}. Say which one with --origin")


class _watched:  # noqa: N801  # reads as a statement
    """Shows what happens to the forwarder meanwhile."""

    def __init__(self, show: _Lines | _Json | _Live) -> None:
        self._show = show

    def __enter__(self) -> None:
        from hastack.discovery import federation

        self._stop = events.subscribe(
            self._show.event,
            federation.EvictionFrozen,
            federation.EvictionThawed,
            federation.ForwarderFailed,
            federation.ForwarderSuperseded,
            federation.OriginChanged,
            federation.OriginRelisted,
        )

    def __exit__(self, *exc: object) -> None:
        self._stop()


def _plain(what: Any) -> dict[str, Any]:
    """Fields of a status or an event for programs."""
    known = attrs.asdict(what, recurse=False)
    known.pop("at", None)
    return {
        name: value if value is None or isinstance(value, (bool, int, float, str)) else _word(value)
        for name, value in known.items()
    }


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


def _sentence(event: Event) -> str:
    """What happened, for people."""
    from hastack.discovery import federation

    if isinstance(event, federation.OriginChanged):
        return f"{event.origin} is {event.after.value}"
    if isinstance(event, federation.OriginRelisted):
        return (
            f"listed {event.origin} ({event.reason}): {event.changes} differences "
            f"at revision {event.revision}, {event.took:.2f} s"
        )
    if isinstance(event, federation.EvictionFrozen):
        return (
            f"FROZEN: {event.missing} of {event.population} instances vanished at once; "
            f"deleting nothing for {event.thaws_in:.0f} s more"
        )
    if isinstance(event, federation.EvictionThawed):
        return "thawed: deleting again"
    if isinstance(event, federation.ForwarderSuperseded):
        return f"standing by: {event.writer} forwards {event.origin}"
    assert isinstance(event, federation.ForwarderFailed)
    return f"{event.part}: {event.error} (again in {event.retry_in:.1f} s)"


def _summary(status: Status) -> str:
    lag = f"{status.behind} revisions, {status.lag:.1f} s"
    frozen = f", frozen: {status.held} deletions held" if status.frozen else ""
    return (
        f"{status.origin}: {status.state.value}, {status.phase}; {status.mirrored} mirrored, "
        f"behind {lag}; {status.puts} puts, {status.deletes} deletes, "
        f"{status.coalesced} coalesced{frozen}"
    )


class _Lines:
    """A line per event, and one for the status when it has changed."""

    every = _EVERY

    def __init__(self) -> None:
        self._last = ""

    def shown(self, forwarder: Forwarder) -> Any:
        return nullcontext()

    def status(self, status: Status) -> None:
        said = _summary(status)
        if said != self._last:
            self._last = said
            self._say(said)

    def event(self, event: Event) -> None:
        self._say(_sentence(event))

    def _say(self, text: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {text}")


class _Json:
    """A JSON object per event, and one per second for the status."""

    every = _EVERY

    def shown(self, forwarder: Forwarder) -> Any:
        return nullcontext()

    def status(self, status: Status) -> None:
        line(kind="status", at=round(time.time(), 3), **_plain(status))

    def event(self, event: Event) -> None:
        line(kind=type(event).__name__, at=round(time.time(), 3), **_plain(event))


class _Live:
    """A table that keeps up, with what happened above it."""

    every = _REFRESH

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._title = ""
        self._before: tuple[float, int] | None = None
        self._rate = 0.0

    def shown(self, forwarder: Forwarder) -> Any:
        self._title = repr(forwarder).partition(" from ")[2].rpartition(":")[0]
        return self._live

    def event(self, event: Event) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {_sentence(event)}", markup=False)

    def status(self, status: Status) -> None:
        self._live.update(self._table(status), refresh=True)

    def _table(self, status: Status) -> Table:
        now, written = time.monotonic(), status.puts + status.deletes
        if self._before is not None:
            gone = max(now - self._before[0], 1e-3)
            self._rate += 0.3 * ((written - self._before[1]) / gone - self._rate)
        self._before = now, written
        table = Table(title=f"{status.origin}: {self._title}", show_header=False)
        colour = {"live": "green", "stale": "yellow"}.get(status.state.value, "red")
        rows = [
            (
                "origin",
                f"[{colour}]{status.state.value}[/], last certain {status.silence:.1f} s ago",
            ),
            ("forwarder", status.phase),
            ("lag", f"{status.behind} revisions, {status.lag:.2f} s"),
            ("mirrored", f"{status.mirrored} at revision {status.revision}"),
            ("writes", f"{status.puts} puts, {status.deletes} deletes, {self._rate:.0f}/s"),
            ("waiting", f"{status.pending}, coalesced so far {status.coalesced}"),
        ]
        if status.frozen:
            left = "" if status.thaws_in is None else f", thaws in {status.thaws_in:.0f} s"
            rows.append(("[red]frozen[/]", f"{status.held} deletions held{left}"))
        if status.refused:
            rows.append(("[red]refused[/]", f"{status.refused} beyond the limits"))
        for row in rows:
            table.add_row(*row)
        if status.error:
            table.add_row("[yellow]error[/]", status.error.replace("[", r"\["))
        return table

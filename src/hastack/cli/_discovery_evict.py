"""``hastack discovery evict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack._core._extras import require
from hastack.errors import InvalidArgument

from ._discovery import run
from ._discovery_federate import open_store

if TYPE_CHECKING:
    import click

    from hastack.discovery import Store
    from hastack.discovery.federation import Eviction
else:
    click = require("click", extra="cli")

__all__ = ("evict",)

_DONE = {"drain": "marked as draining", "revoke": "revoked", "forget": "revoked and forgotten"}


@click.command()
@click.option(
    "--in",
    "url",
    required=True,
    metavar="URL",
    help="Store that holds the mirror, etcd://HOST:PORT,HOST:PORT for example.",
)
@click.option("--origin", required=True, help="The cluster whose mirror is meant.")
@click.argument("eviction", metavar="drain|revoke|forget", type=click.Choice(tuple(_DONE)))
@click.option(
    "--timeout",
    type=click.FloatRange(0.0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the store at most, per request.",
)
def evict(url: str, origin: str, eviction: Eviction, timeout: float) -> None:
    """Do by hand what a forwarder would do with the mirror of a cluster that stays away.

    drain marks its instances as draining, revoke deletes them, forget also deletes the note how far
    it was forwarded. Refused while a forwarder of that cluster is alive.
    """
    try:
        store = open_store(url)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    run(_evict(store, origin, eviction, timeout))


async def _evict(store: Store, origin: str, eviction: Eviction, timeout: float) -> None:
    from hastack.discovery import federation

    try:
        count = await federation.evict(store, origin=origin, eviction=eviction, timeout=timeout)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    finally:
        await store.aclose()
    click.echo(f"{count} instances of {origin} {_DONE[eviction]}")

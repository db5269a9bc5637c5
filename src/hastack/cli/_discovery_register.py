"""``hastack discovery register``."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

from hastack import events
from hastack._core._extras import require
from hastack.errors import InvalidArgument

from ._discovery import connection, open_registry, run

if TYPE_CHECKING:
    import click

    from hastack.discovery import Registration, Registry
else:
    click = require("click", extra="cli")

__all__ = ("register",)


def _pairs(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in value:
        name, separator, text = each.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{each!r}: expected NAME=VALUE")
        found[name] = text
    return found


def _probe(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """``tcp://host:port``, ``http(s)://...`` or ``grpc://host:port[/service]``."""
    if value is None:
        return None
    from hastack.discovery import GrpcHealth, Http, Tcp

    scheme, _, rest = value.partition("://")
    try:
        if scheme == "tcp":
            host, _, port = rest.rpartition(":")
            return Tcp(host.strip("[]"), int(port))
        if scheme in {"http", "https"}:
            return Http(value)
        if scheme == "grpc":
            target, _, service = rest.partition("/")
            return GrpcHealth(target, service=service)
    except (InvalidArgument, ValueError) as error:
        raise click.BadParameter(f"{value!r}: {error}") from None
    raise click.BadParameter(f"{value!r}: expected tcp://, http://, https:// or grpc://")


@click.command()
@click.argument("service")
@click.argument("address")
@connection
@click.option("--id", "id_", metavar="ID", help="Identity; by default made of the address.")
@click.option(
    "--metadata", "-m", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Repeatable."
)
@click.option("--weight", type=click.FloatRange(0.0), default=1.0, show_default=True)
@click.option("--zone", default="", help="Failure domain.")
@click.option(
    "--ttl",
    type=click.FloatRange(1.0),
    default=10.0,
    show_default=True,
    help="Seconds until it vanishes when this command is killed.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0.0),
    default=1.0,
    show_default=True,
    help="Seconds between draining and deletion at the end.",
)
@click.option(
    "--check",
    callback=_probe,
    metavar="URL",
    help="Register only while tcp://HOST:PORT, http://..., or grpc://HOST:PORT/SERVICE is well.",
)
@click.option("--interval", type=float, default=5.0, show_default=True, help="Seconds per check.")
def register(
    service: str,
    address: str,
    id_: str | None,
    metadata: dict[str, str],
    weight: float,
    zone: str,
    ttl: float,
    grace: float,
    check: Any,
    interval: float,
    **options: Any,
) -> None:
    """Register SERVICE at ADDRESS until Ctrl-C or SIGTERM."""
    from hastack.discovery import Health

    registry = open_registry(**options)
    try:
        registration = registry.register(
            service,
            address,
            id=id_,
            metadata=metadata,
            weight=weight,
            zone=zone,
            ttl=ttl,
            grace=grace,
            health=None if check is None else Health(check, interval=interval),
        )
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    run(_register(registry, registration))


async def _register(registry: Registry, registration: Registration) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, told.set)
    one = registration.instance
    before = ""
    with _reported():
        async with registry, registration:
            while not told.is_set():
                if registration.state != before:
                    before = registration.state
                    error = registration.error if before != "present" else None
                    why = f" ({error})" if error is not None else ""
                    _say(f"{one.service}/{one.id} at {one.address}: {before}{why}")
                try:
                    await asyncio.wait_for(told.wait(), 0.2)
                except TimeoutError:
                    pass
            _say("leaving")


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


class _reported:  # noqa: N801  # reads as a statement
    """Prints what happens to the registration meanwhile."""

    def __enter__(self) -> None:
        from hastack.discovery import registry

        def told(event: Any) -> None:
            if isinstance(event, registry.InstanceRestored):
                _say(f"back after {event.after:.1f} s")
            elif isinstance(event, registry.InstanceDeregistered):
                _say("gone" if event.clean else "gone here; the store drops it with its lease")

        self._stop = events.subscribe(
            told,
            registry.InstanceRestored,
            registry.InstanceDeregistered,
        )

    def __exit__(self, *exc: object) -> None:
        self._stop()

"""``hastack discovery``: look at what is registered, register by hand, examine the store."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import ConfigError, HastackError, InvalidArgument

from ._lazy import LazyGroup

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import click

    from hastack.discovery import Registry
else:
    click = require("click", extra="cli")

__all__ = ("connection", "discovery", "open_registry", "run")

# name -> (module, attribute, what the help says of it); each loads when it is asked for.
_COMMANDS = {
    "doctor": (
        "_discovery_doctor",
        "doctor",
        "Examine the store: versions, leader, lease, watch lag.",
    ),
    "evict": (
        "_discovery_evict",
        "evict",
        "Drain, revoke or forget the mirror of a cluster that is gone.",
    ),
    "federate": (
        "_discovery_federate",
        "federate",
        "Mirror one cluster's instances into another.",
    ),
    "list": ("_discovery_list", "list_services", "Print the services, or the instances of one."),
    "register": ("_discovery_register", "register", "Register an instance until Ctrl-C."),
    "watch": ("_discovery_watch", "watch", "Show the instances of a service as they change."),
}


@click.group(cls=LazyGroup, commands=_COMMANDS)
def discovery() -> None:
    """Look at what is registered, register by hand, examine the store.

    The store is --url, else HASTACK_DISCOVERY_URL, else discovery.url of --config and of the
    environment (HASTACK_DISCOVERY__URL).
    """


def connection(command: Any) -> Any:
    """The options that say which store and which part of it."""
    for option in reversed(
        (
            click.option(
                "--url",
                envvar="HASTACK_DISCOVERY_URL",
                metavar="URL",
                help="Store, etcd://USER:PASSWORD@HOST:PORT,HOST:PORT for example.",
            ),
            click.option(
                "--config",
                "files",
                multiple=True,
                type=click.Path(exists=True, dir_okay=False),
                metavar="FILE",
                help="Read discovery settings from here; repeatable, later ones win.",
            ),
            click.option("--namespace", help="Tenant or environment."),
            click.option("--origin", help="Name of the cluster that the store belongs to."),
            click.option(
                "--timeout",
                type=click.FloatRange(0.0, min_open=True),
                help="Seconds to wait for the store at most.",
            ),
        )
    ):
        command = option(command)
    return command


def open_registry(
    url: str | None,
    files: tuple[str, ...],
    namespace: str | None,
    origin: str | None,
    timeout: float | None,
) -> Registry:
    """The registry that the options of `connection` mean."""
    import attrs

    from hastack import config
    from hastack import discovery as library

    try:
        settings = config.load(*files).discovery
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    given = {"url": url, "namespace": namespace, "origin": origin, "timeout": timeout}
    options = attrs.asdict(settings, recurse=False)
    options.update((name, value) for name, value in given.items() if value is not None)
    options["cache"] = None  # that file is its service's
    if url is None and options["url"].reveal() == "memory://":
        # The store of this very process: nobody else can ever register there.
        raise click.UsageError("which store? Give --url, or set HASTACK_DISCOVERY_URL")
    try:
        return library.connect(**options)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


def run(main: Coroutine[Any, Any, int | None]) -> None:
    """Run a command to its end; what went wrong in one line, without a traceback."""
    try:
        status = asyncio.run(main)
    except HastackError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        status = 130
    sys.exit(status or 0)


def plain(instance: Any) -> dict[str, Any]:
    """An instance for programs."""
    return {
        "id": instance.id,
        "address": instance.address,
        "metadata": dict(instance.metadata),
        "weight": instance.weight,
        "zone": instance.zone,
        "draining": instance.draining,
        "origin": instance.origin,
        "home": instance.home,
    }


def line(**what: Any) -> None:
    """One JSON object on a line of its own, at once."""
    print(json.dumps(what, ensure_ascii=False), flush=True)

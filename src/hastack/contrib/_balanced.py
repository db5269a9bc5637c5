"""What the adapters of client-side balancing share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from hastack._core._errors import HastackError, InvalidArgument
from hastack.discovery.balance import Balancer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hastack.discovery.balance import Pick

Balancers: TypeAlias = "Balancer | Mapping[str, Balancer]"


class ServerFailed(HastackError):
    """What a breaker is told when an answer says that the server is at fault."""


def by_host(balancers: Balancers) -> dict[str, Balancer]:
    """Balancers by the host names that stand for their services in URLs.

    Raises:
        InvalidArgument: It is neither a balancer nor a mapping of names to balancers.
    """
    if isinstance(balancers, Balancer):
        return {balancers.service.lower(): balancers}
    try:
        found = {name.lower(): each for name, each in balancers.items()}
    except AttributeError:
        found = {}
    if not found or not all(isinstance(each, Balancer) for each in found.values()):
        raise InvalidArgument(
            "balancers", balancers, "a Balancer, or a mapping of host to Balancer"
        )
    return found


def host_and_port(address: str) -> tuple[str, int | None]:
    """An instance's address taken apart; brackets of an IPv6 address are dropped.

    Raises:
        InvalidArgument: The port is no number.
    """
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        return address.strip("[]"), None
    if host.count(":") and not host.startswith("["):
        return address, None  # an IPv6 address without a port
    if not port.isascii() or not port.isdigit():
        raise InvalidArgument("address", address, "host:port")
    return host.strip("[]"), int(port)


def another(balancer: Balancer, pick: Pick, tried: list[str]) -> bool:
    """Note that ``pick`` could not be reached; whether there is one that was not tried."""
    if pick.instance.id in tried:  # nothing better was left
        return False
    tried.append(pick.instance.id)
    return len(tried) < len(balancer.endpoints)


def status_verdict(status: int) -> ServerFailed | None:
    """The failure that an HTTP status reports: 5xx is the server's fault, all else an answer."""
    return ServerFailed(f"status {status}") if status >= 500 else None

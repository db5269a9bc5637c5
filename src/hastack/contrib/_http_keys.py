"""Whose permits a request takes, and how many: small functions of a request that compose."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer, positive, text

from ._client_address import client_network

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ._http_request import HttpRequest

    Key: TypeAlias = Callable[[HttpRequest], Hashable]
    Cost: TypeAlias = Callable[[HttpRequest], float]

_LONGEST = 256


def by_client(*, v4_prefix: int = 32, v6_prefix: int = 64) -> Key:
    """One limit for each client address.

    Args:
        v4_prefix: Bits of an IPv4 address that tell clients apart.
        v6_prefix: The same for IPv6. Every subscriber has at least a /64 to choose addresses
            from, so a limit for each address would be none.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.contrib.http_limits import Rule, by_client
        >>> rule = Rule(ratelimit.TokenBucket("10/s"), key=by_client())
    """
    v4 = _prefix("v4_prefix", v4_prefix, 32)
    v6 = _prefix("v6_prefix", v6_prefix, 128)

    def key(request: HttpRequest) -> Hashable:
        address = request.client
        return None if address is None else client_network(address, v4, v6)

    return key


def _prefix(parameter: str, value: object, largest: int) -> int:
    bits = integer(parameter, value)
    if bits > largest:
        raise InvalidArgument(parameter, value, f"an integer from 1 to {largest}")
    return bits


def by_header(name: str, *, otherwise: Key | None = None) -> Key:
    """One limit for each value of a header, such as an API key that was checked before.

    A header is the client's own word. Unless something in front refuses values that it does not
    know, a client that invents a new one for each request has a new limit each time: let a rule
    by client stand beside this one.

    Args:
        name: The header.
        otherwise: The key of requests without it; by default they share one limit.
    """
    field = text("name", name).lower()
    if otherwise is not None and not callable(otherwise):
        raise InvalidArgument("otherwise", otherwise, "a function of a request, or None")

    def key(request: HttpRequest) -> Hashable:
        value = request.header(field)
        if not value:
            # A tuple, so that no value of the header can mean somebody else's limit.
            return None if otherwise is None else ("", otherwise(request))
        return value if len(value) <= _LONGEST else _digest(value)

    return key


def _digest(value: str) -> str:
    """A short stand-in for a long value: keys stay in memory, and their number is bounded."""
    from hashlib import blake2b

    return blake2b(value.encode("utf-8", "surrogateescape"), digest_size=32).hexdigest()


def by_route() -> Key:
    """One limit for each route; see `HttpRequest.route`."""

    def key(request: HttpRequest) -> Hashable:
        return request.route

    return key


def by_method() -> Key:
    """One limit for each method; methods that HTTP does not define share one."""

    def key(request: HttpRequest) -> Hashable:
        return request.method if request.method in _METHODS else None

    return key


_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)


def by_all(*keys: Key) -> Key:
    """One limit for each combination, such as ``by_all(by_client(), by_route())``."""
    if len(keys) < 2 or not all(map(callable, keys)):
        raise InvalidArgument("keys", keys, "at least two functions of a request")

    def key(request: HttpRequest) -> Hashable:
        return tuple(each(request) for each in keys)

    return key


class BodyCost:
    """The cost of a request by the length of its body, as ``Content-Length`` declares it.

    A server enforces the declared length, so it cannot be understated; a body without one (chunked)
    costs ``unknown``.

    Args:
        per: Bytes that one permit pays for.
        least: The cost of a request without a body.
        unknown: The cost of a body of unknown length.

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.contrib.http_limits import BodyCost, Rule
        >>> uploads = ratelimit.TokenBucket("1000/s", burst=64_000)  # KiB
        >>> rule = Rule(uploads, cost=BodyCost(per=1024, unknown=1024))
    """

    def __init__(
        self,
        *,
        per: int = 1024,
        least: float = 1.0,
        unknown: float = 1.0,
    ) -> None:
        self.per = integer("per", per)
        self._least = positive("least", least)
        self._unknown = positive("unknown", unknown)

    def __call__(self, request: HttpRequest) -> float:
        """The cost of one request."""
        size = request.body_size
        return self._unknown if size is None else max(-(-size // self.per), self._least)


def header_cost(name: str, *, otherwise: float = 1.0) -> Cost:
    """The cost that a header says, when a proxy that is trusted sets it.

    Args:
        name: The header.
        otherwise: The cost without it, or when it is no number above zero.
    """
    field = text("name", name).lower()
    usual = positive("otherwise", otherwise)

    def cost(request: HttpRequest) -> float:
        value = request.header(field) or ""
        try:
            said = float(value) if len(value) <= 32 else 0.0
        except ValueError:
            said = 0.0
        return said if said > 0.0 and isfinite(said) else usual

    return cost

"""Who sent a request, when trusted proxies stand in between.

A proxy appends the address that it saw to ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239); whatever
stands to the left of that was sent by the client and may be a lie. So the chain is read from the
right, and only for as long as the address that reported an element is trusted itself.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias, final

from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Address: TypeAlias = IPv4Address | IPv6Address

_LOCAL = "unix"
_MOST_ELEMENTS = 64  # proxies in a row that are believed; no real chain is a tenth of this
_LONGEST_ADDRESS = 100  # an IPv6 address with brackets, zone and port has about 70
_LONGEST = 4096  # characters that are looked at, from the right


@final
class TrustedProxies:
    """Which proxies may say who the client is, and in which header they say it.

    Give networks, or a number of hops, not both. With networks, the chain is followed from the
    connection's own address to the left for as long as the addresses are in one of them; what
    comes first outside is the client. With ``hops=n``, exactly ``n`` proxies are believed whoever
    they are: right only when nobody can reach the service around them.

    An element that is no address (malformed, ``unknown``, an obfuscated ``_name``) ends the walk:
    the client is then the proxy that reported it, which at least is true.

    Args:
        *networks: Addresses or networks, such as ``"10.0.0.0/8"`` or ``"2001:db8::/32"``;
            ``"unix"`` trusts connections that have no address.
        hops: Number of proxies in front of the service.
        header: The one header that is read: ``"x-forwarded-for"``, ``"forwarded"``, or another
            that holds addresses, separated by commas. It must be one that the proxies write:
            a header that they pass on unchanged is the client's own word.

    Raises:
        InvalidArgument: Both or neither are given, or a network is none.

    Example:
        >>> from hastack.contrib.http_limits import TrustedProxies
        >>> proxies = TrustedProxies("10.0.0.0/8")
        >>> proxies.client("10.0.0.2", "6.6.6.6, 203.0.113.7, 10.0.0.1")
        '203.0.113.7'
        >>> proxies.client("198.51.100.1", "6.6.6.6")  # not one of ours: its header is ignored
        '198.51.100.1'
    """

    def __init__(
        self, *networks: str, hops: int | None = None, header: str = "x-forwarded-for"
    ) -> None:
        if (hops is None) is not bool(networks):
            accepted = "networks, or a number of hops instead"
            raise InvalidArgument("networks", networks, accepted)
        self.header = text("header", header).lower()
        self._hops = _MOST_ELEMENTS if hops is None else integer("hops", hops)
        self._anybody = hops is not None
        self._local = _LOCAL in networks
        self._networks = tuple(_network(each) for each in networks if each != _LOCAL)
        self._elements = _forwarded if self.header == "forwarded" else _listed
        self._trusts: Callable[[str], bool] = lru_cache(4096)(self._in_networks)

    def __repr__(self) -> str:
        trusted = f"hops={self._hops}" if self._anybody else ", ".join(map(str, self._networks))
        return f"TrustedProxies({trusted}, header={self.header!r})"

    def client(self, peer: str | None, value: str | None) -> str | None:
        """The address of the client.

        Args:
            peer: Address of the connection; ``None`` or a path for a Unix socket.
            value: The header, all its lines joined with commas in the order in which they came.

        Returns:
            An address in its canonical form, or ``None`` when nothing is known.
        """
        found = parse_address(peer)
        if not value or not (self._anybody or self._believed(found)):
            return found
        if len(value) > _LONGEST:
            value = f"?{value[-_LONGEST:]}"  # the element that is cut is no address
        for steps, element in enumerate(self._elements(value), start=1):
            address = parse_address(element)
            if address is None:
                return found
            found = address
            if steps >= self._hops or not (self._anybody or self._trusts(found)):
                return found
        return found

    def _believed(self, address: str | None) -> bool:
        return self._local if address is None else self._trusts(address)

    def _in_networks(self, address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        if isinstance(value, str):
            return ip_network(value)
    except ValueError:
        pass
    accepted = 'networks such as "10.0.0.0/8" (no bits beyond the prefix), or "unix"'
    raise InvalidArgument("networks", value, accepted)


def parse_address(given: str | None) -> str | None:
    """The canonical address in ``given``, which may carry a port; ``None`` when it has none.

    An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``) is that IPv4 address: a socket
    that listens on both families reports it so, and the client is the same.
    """
    # Strangers choose what is remembered here: short texts only.
    return _address(given) if given and len(given) <= _LONGEST_ADDRESS else None


@lru_cache(8192)
def _address(given: str) -> str | None:
    host = given.strip(" \t")
    if host.startswith("["):
        host, closed, port = host[1:].partition("]")
        if not closed or not _is_port(port) or ":" not in host:
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address if mapped is None else mapped)


def _is_port(text: str) -> bool:
    """Whether this is ``:port``, or nothing; RFC 7239 also allows an obfuscated one."""
    if not text:
        return True
    name = text[1:]
    return text[0] == ":" and (
        (name.isascii() and name.isdigit() and len(name) <= 5)
        or (name.startswith("_") and len(name) > 1)
    )


@lru_cache(8192)
def client_network(address: str, v4_prefix: int, v6_prefix: int) -> str:
    """The network that one client commands; its address when that is all."""
    parsed = ip_address(address)
    prefix = v4_prefix if parsed.version == 4 else v6_prefix
    if prefix == parsed.max_prefixlen:
        return address
    return str(ip_network(f"{address}/{prefix}", strict=False))


def _listed(value: str) -> Iterator[str]:
    """Elements of an ``X-Forwarded-For``, the last one first."""
    rest: str | None = value
    while rest is not None:
        before, comma, element = rest.rpartition(",")
        rest = before if comma else None
        yield element.strip(' \t"')


def _forwarded(value: str) -> Iterator[str]:
    """What the elements of a ``Forwarded`` say in ``for=``, the last one first.

    Read from the right, too: a quote that a client leaves open on the left must not swallow what
    a proxy wrote behind it.
    """
    for element in _split_right(value, ","):
        found = [
            pair.partition("=")[2].strip(" \t")
            for pair in _split_right(element, ";")
            if pair.partition("=")[0].strip(" \t").lower() == "for"
        ]
        yield _unquoted(found[0]) if len(found) == 1 else ""


def _split_right(value: str, separator: str) -> Iterator[str]:
    """Parts between separators outside of quotes, the last one first."""
    end = len(value)
    quoted = False
    for at in range(len(value) - 1, -1, -1):
        character = value[at]
        if character == '"':
            escapes = at - len(value[:at].rstrip("\\")) if at and value[at - 1] == "\\" else 0
            # A quote behind an odd number of backslashes is one inside of the string.
            quoted = quoted if escapes % 2 else not quoted
        elif character == separator and not quoted:
            yield value[at + 1 : end]
            end = at
    yield value[:end]


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace("\\", "")
    return "" if '"' in value else value

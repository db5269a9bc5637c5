"""IP addresses in texts, and what is left of one when the host is taken away."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

__all__ = ("V4", "V6", "Address", "masked", "parsed", "written")

Address: TypeAlias = IPv4Address | IPv6Address

# What stands before is looked at after the first character: see `_redact_cards.CARD`.
V4: Final = re.compile(
    r"[0-9](?<![0-9A-Za-z_.].)[0-9]{0,2}+(?:\.[0-9]{1,3}+){3}(?![0-9A-Za-z_]|\.[0-9])", re.DOTALL
)
"""What may be an IPv4 address: not a part of a longer word, perhaps with a port behind it."""

V6: Final = re.compile(
    r"[0-9A-Fa-f:](?<![0-9A-Za-z_:.].)[0-9A-Fa-f:.]{1,45}+(?![0-9A-Za-z_])", re.DOTALL
)
"""What may be an IPv6 address, if `parsed` says so: times look the same."""


def parsed(text: str) -> tuple[Address | None, str]:
    """The address and how much of the text it is: what ends a sentence is no part of it."""
    for written in (text, text.rstrip(".:")):
        try:
            return (IPv6Address(written) if ":" in written else IPv4Address(written)), written
        except ValueError:
            continue
    return None, text


def masked(address: Address, bits_v4: int, bits_v6: int) -> Address:
    """The first address of the network that an address is in.

    An IPv4 address within an IPv6 one keeps as many bits as it would by itself.

    Example:
        >>> str(masked(IPv4Address("203.0.113.7"), 24, 48))
        '203.0.113.0'
        >>> str(masked(IPv6Address("2001:db8:1:2::7"), 24, 48))
        '2001:db8:1::'
    """
    if isinstance(address, IPv4Address):
        return IPv4Address(_cut(int(address), 32, bits_v4))
    if address.ipv4_mapped is not None:
        return IPv6Address(_cut(int(address), 128, 96 + bits_v4))
    return IPv6Address(_cut(int(address), 128, bits_v6))


def written(address: Address) -> str:
    """An address as text, the same in all versions of Python.

    Example:
        >>> written(IPv6Address("::ffff:203.0.113.7"))
        '::ffff:203.0.113.7'
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)


def _cut(number: int, size: int, bits: int) -> int:
    return number >> (size - bits) << (size - bits)

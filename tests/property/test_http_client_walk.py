"""Whatever a client writes into the header, it is taken for what the proxies saw."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from hastack.contrib.http_limits import TrustedProxies

OURS = ip_network("10.0.0.0/8")
proxies = st.integers(1, 2**24 - 2).map(lambda n: str(OURS[n]))
strangers = st.ip_addresses().filter(
    lambda a: a not in OURS and getattr(a, "ipv4_mapped", None) is None
)
# Any header that a server lets through: the client is free to write it.
lies = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF)),
    st.text(alphabet='for=";,\\ .:[]_0123456789abcdef', max_size=80),
    st.lists(st.one_of(proxies, strangers.map(str))).map(", ".join),
)


def bare(address: IPv4Address | IPv6Address) -> str:
    return str(address)


def written(address: IPv4Address | IPv6Address | str, port: int | None) -> str:
    """As a proxy writes it into Forwarded."""
    text = str(address)
    if ":" in text:
        text = f"[{text}]"
    if port is not None:
        text = f"{text}:{port}"
    return f'"{text}"' if ":" in text else text


@given(lies, strangers, st.lists(proxies, min_size=1, max_size=5))
def test_nothing_in_x_forwarded_for_changes_who_the_client_is(lie, client, path):
    """``path``: the proxies from the outermost in; the innermost one is the peer."""
    header = lie
    seen = [bare(client), *path[:-1]]
    for address in seen:
        header = f"{header}, {address}" if header else address
    assert TrustedProxies("10.0.0.0/8").client(path[-1], header) == str(client)
    assert TrustedProxies(hops=len(path)).client(path[-1], header) == str(client)


@given(
    lies,
    strangers,
    st.lists(proxies, min_size=1, max_size=5),
    st.none() | st.integers(0, 65535),
)
def test_nothing_in_forwarded_changes_who_the_client_is(lie, client, path, port):
    header = lie
    for address in [client, *path[:-1]]:
        element = f"for={written(address, port)};proto=https"
        header = f"{header}, {element}" if header else element
    found = TrustedProxies("10.0.0.0/8", header="forwarded").client(path[-1], header)
    assert found == str(client)


@given(lies, strangers)
def test_who_comes_directly_is_taken_at_no_word(lie, client):
    for header in ("x-forwarded-for", "forwarded"):
        proxies = TrustedProxies("10.0.0.0/8", header=header)
        assert proxies.client(str(client), lie) == str(client)


@given(lies, proxies, st.sampled_from(["x-forwarded-for", "forwarded"]))
def test_any_header_gives_an_address_and_no_error(lie, peer, header):
    found = TrustedProxies("10.0.0.0/8", header=header).client(peer, lie)
    assert str(ip_address(found)) == found

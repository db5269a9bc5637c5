"""Who the client is behind proxies, against clients that lie about it."""

from __future__ import annotations

import pytest

from hastack.contrib._client_address import client_network, parse_address
from hastack.contrib.http_limits import TrustedProxies
from hastack.errors import InvalidArgument

PROXIES = TrustedProxies("10.0.0.0/8", "2001:db8:ffff::/48")
FORWARDED = TrustedProxies("10.0.0.0/8", header="Forwarded")


@pytest.mark.parametrize(
    ("peer", "value", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),  # not through a proxy: its own word
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # the left one is the client's word
        ("10.0.0.1", "6.6.6.6,203.0.113.9 , 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9, 203.0.113.9", "203.0.113.9"),  # pretends to be a proxy
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # all of them ours
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "2001:DB8:0::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:ffff::1", "203.0.113.9, fe80::1%eth0", "fe80::1"),
        # Nothing that can be believed: the proxy that said it.
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, _hidden", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, 010.0.0.2, 10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.9, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.2.3.4:port", "10.0.0.1"),
        ("10.0.0.1", "[1.2.3.4]:80", "10.0.0.1"),
        ("10.0.0.1", "[::1", "10.0.0.1"),
        ("10.0.0.1", "\x00", "10.0.0.1"),
        ("10.0.0.1", "a" * 100_000, "10.0.0.1"),
        ("10.0.0.1", "9" * 5000 + ".1.1.1", "10.0.0.1"),  # cut, so it is no address
        (None, "203.0.113.9", None),
        ("/run/app.sock", "203.0.113.9", None),
    ],
)
def test_the_walk_ends_at_the_first_address_that_nobody_trusted_reported(peer, value, client):
    assert PROXIES.client(peer, value) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("for=6.6.6.6, for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ('For="203.0.113.9:1", for=10.0.0.2', "203.0.113.9"),
        ('for="203.0.113.9:_port"', "203.0.113.9"),
        # A quote left open by the client swallows nothing.
        ('for="6.6.6.6, for=203.0.113.9', "203.0.113.9"),
        ('for="\\", for=203.0.113.9', "203.0.113.9"),
        ('for="x, for=10.0.0.9;by="y", for=203.0.113.9', "203.0.113.9"),
        ('for=6.6.6.6, for="203.0.113.9;,"', "10.0.0.1"),
        ("for=10.0.0.4, for=10.0.0.3", "10.0.0.4"),
        ("for=_secret", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=1.2.3.4", "10.0.0.1"),
        ("for=1.2.3.4;for=5.6.7.8", "10.0.0.1"),  # twice: nobody knows which
        ('for=1.2.3.4"', "10.0.0.1"),
        ('for="1.2.3.4', "10.0.0.1"),
        ("203.0.113.9", "10.0.0.1"),  # the other header's form
    ],
)
def test_forwarded(value, client):
    assert FORWARDED.client("10.0.0.1", value) == client


def test_hops_count_proxies_whoever_they_are():
    two = TrustedProxies(hops=2)
    assert two.client("198.51.100.1", "6.6.6.6, 203.0.113.9, 198.51.100.2") == "203.0.113.9"
    assert two.client("198.51.100.1", "203.0.113.9") == "203.0.113.9"
    assert two.client("198.51.100.1", None) == "198.51.100.1"
    assert two.client("198.51.100.1", "203.0.113.9, junk") == "198.51.100.1"
    assert two.client(None, "203.0.113.9, 198.51.100.2") == "203.0.113.9"
    assert repr(two) == "TrustedProxies(hops=2, header='x-forwarded-for')"


def test_a_unix_socket_is_trusted_when_that_is_said():
    local = TrustedProxies("unix", "10.0.0.0/8")
    assert local.client(None, "6.6.6.6, 203.0.113.9") == "203.0.113.9"
    assert local.client("/run/app.sock", "203.0.113.9, 10.0.0.1") == "203.0.113.9"
    assert local.client(None, "nonsense") is None
    assert local.client("203.0.113.1", "1.1.1.1") == "203.0.113.1"
    assert "10.0.0.0/8" in repr(local)


@pytest.mark.parametrize(
    ("networks", "options"),
    [
        ((), {}),
        (("10.0.0.0/8",), {"hops": 1}),
        (("10.0.0.1/8",), {}),
        (("proxy.local",), {}),
        ((10,), {}),
        ((), {"hops": 0}),
        (("10.0.0.0/8",), {"header": ""}),
    ],
)
def test_what_proxies_cannot_be(networks, options):
    with pytest.raises(InvalidArgument):
        TrustedProxies(*networks, **options)


def test_networks_of_clients():
    assert client_network("203.0.113.9", 32, 64) == "203.0.113.9"
    assert client_network("203.0.113.9", 24, 64) == "203.0.113.0/24"
    assert client_network("2001:db8::1:2:3:4", 32, 64) == "2001:db8::/64"
    assert client_network("2001:db8::1", 32, 128) == "2001:db8::1"
    assert parse_address("") is None
    assert parse_address(" 1.2.3.4\t") == "1.2.3.4"
    assert parse_address("[::1]x") is None
    assert parse_address("[::1]:_") is None
    assert parse_address("[::1]") == "::1"

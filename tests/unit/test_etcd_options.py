"""What a client may be told, what it answers to mistakes, and what it never shows."""

from __future__ import annotations

import traceback

import pytest

from hastack.config import Secret
from hastack.discovery import etcd
from hastack.discovery.etcd._options import options_of, parse_url
from hastack.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a:1", ("a:1",)),
        ("a:1,b:2", ("a:1", "b:2")),
        (["a:1", "a:1", "http://b:2/"], ("a:1", "b:2")),
        ("[::1]:2379", ("[::1]:2379",)),
        (" a:1 , b:2", ("a:1", "b:2")),
    ],
)
def test_endpoints(given, expected):
    assert options_of(given).endpoints == expected


@pytest.mark.parametrize(
    "given", ["", "a", "a:", ":1", "a:x", "a:0", "a:65536", "ftp://a:1", "://a:1", [], [5], "u@a:1"]
)
def test_what_is_no_endpoint(given):
    with pytest.raises(InvalidArgument, match="endpoints="):
        options_of(given)


def test_tls_follows_the_scheme_or_what_is_said():
    assert options_of("a:1").tls is None
    assert options_of("http://a:1", tls=False).tls is None
    assert options_of("https://a:1,b:2").tls == etcd.TLS()
    assert options_of("a:1", tls=True).tls == etcd.TLS()
    mine = etcd.TLS(ca=b"ca", cert=b"cert", key=b"key")
    assert options_of("https://a:1", tls=mine).tls is mine
    for given, endpoints in ((False, "https://a:1"), (True, "http://a:1"), (5, "a:1")):
        with pytest.raises(InvalidArgument, match="tls="):
            options_of(endpoints, tls=given)
    with pytest.raises(InvalidArgument, match="endpoints="):
        options_of("http://a:1,https://b:1")


def test_certificates_come_in_pairs_and_are_not_shown():
    with pytest.raises(InvalidArgument, match="key=None"):
        etcd.TLS(cert=b"c")
    with pytest.raises(InvalidArgument, match="cert=None"):
        etcd.TLS(key=b"k")
    with pytest.raises(InvalidArgument, match="key=") as info:
        etcd.TLS(cert=b"c", key="very secret")
    assert "very secret" not in str(info.value)
    assert "very secret" not in repr(etcd.TLS(cert=b"c", key=b"very secret"))


def test_user_and_password_come_together():
    options = options_of("a:1", user="u", password="p")
    assert options.password == Secret("p")
    assert options_of("a:1", user="u", password=Secret("p")) == options
    with pytest.raises(InvalidArgument, match="password=None"):
        options_of("a:1", user="u")
    with pytest.raises(InvalidArgument, match="user=None"):
        options_of("a:1", password="p")
    with pytest.raises(InvalidArgument, match=r"password=.*bytes"):
        options_of("a:1", user="u", password=b"p")


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", 0), ("max_txn_ops", 0), ("max_request_bytes", 1.5), ("namespace", 5)],
)
def test_other_mistakes_name_the_parameter(name, value):
    with pytest.raises(InvalidArgument, match=f"{name}="):
        etcd.Client("a:1", **{name: value})


def test_urls():
    plain = parse_url("etcd://a,b:1/name%2Fspace/")
    assert plain == options_of(["a:2379", "b:1"], namespace="name/space/")
    full = parse_url("etcds://us%20er:p%40ss@[::1],b:1")
    assert full == options_of(["[::1]:2379", "b:1"], user="us er", password="p@ss", tls=True)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://a:1",
            "etcd:a:1",
            "etcd://",
            "etcd:///name",
            "etcd://u@a",
            "etcd://a:x",
            "etcd://a,,b",
        ),
        *("etcd://a?timeout=5", "etcd://a#x", "", 5, "etcd://u:hidden@", "x://u:hidden@a:1"),
        "etcd://u:hidden@a:99999",
    ],
)
def test_bad_urls_do_not_show_their_password(url):
    with pytest.raises(InvalidArgument, match="url=") as info:
        etcd.connect(url)
    assert "hidden" not in "".join(traceback.format_exception(info.value))


def test_nothing_shows_the_password():
    client = etcd.connect("etcd://user:hidden@a:1/ns")
    assert client.url == "etcd://a:1/ns"
    for text in (repr(client), client.url, repr(client._shared.options), str(vars(client))):
        assert "hidden" not in text
    assert repr(client) == "<etcd.Client a:1 namespace=b'ns'>"

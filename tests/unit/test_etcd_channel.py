"""Channels without a server: options, certificates, and what a fork leaves."""

from __future__ import annotations

import asyncio

import pytest

from hastack.discovery import etcd
from hastack.discovery.etcd import _channel
from hastack.errors import ForkUnsafe


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Nothing of this shows in other tests."""
    monkeypatch.setattr(_channel, "_open", type(_channel._open)())
    monkeypatch.setattr(_channel, "_inherited", [])
    monkeypatch.setattr(_channel, "_spoiled", False)


def test_grpc_is_loaded_once(monkeypatch):
    monkeypatch.setattr(_channel, "_grpc", None)
    assert not _channel.loaded()
    assert _channel.load() is _channel.load()
    assert _channel.loaded()


@pytest.mark.parametrize(
    "tls", [None, etcd.TLS(), etcd.TLS(server_name="etcd.example")], ids=["none", "tls", "name"]
)
def test_a_channel_connects_to_nobody_until_it_is_used(tls):
    async def main():
        grpc = _channel.load()
        line = _channel.Line("127.0.0.1:1", grpc.channel("127.0.0.1:1", tls))
        assert line.channel.get_state() not in {grpc.READY, grpc.TRANSIENT_FAILURE}
        assert line.unary("/a/b") is line.unary("/a/b")
        await line.aclose()
        assert not _channel._open

    asyncio.run(main())


def test_after_a_fork_with_open_channels_there_are_no_new_ones():
    async def main():
        grpc = _channel.load()
        _channel._after_fork()
        line = _channel.Line("127.0.0.1:1", grpc.channel("127.0.0.1:1", None))
        _channel._after_fork()
        assert _channel._inherited == [line]
        with pytest.raises(ForkUnsafe, match="close the client before the fork"):
            grpc.channel("127.0.0.1:1", None)
        await line.aclose()

    asyncio.run(main())

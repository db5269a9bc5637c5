"""Tables of functions: a congestion control of TCP that programs implement."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from bpf_objects import built, kernel_objects, needs, open_descriptors, settles

from hastack import ebpf
from hastack.errors import ClosedError, KernelRefused, Unsupported

KNOWN = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
NAME = f"hs{os.getpid()}".encode()  # the machine's other test runs have theirs


def steady(*flags: str) -> bytes:
    named = f'-DNAME="{NAME.decode()}"'
    return built("congestion", "-D__TARGET_ARCH_x86", named, *flags)


@pytest.fixture
def obj() -> Iterator[ebpf.Object]:
    needs("btf", "program:struct_ops")
    with ebpf.load(steady()) as made:
        yield made


def transfer(size: int = 200_000) -> None:
    """Send some data over a connection that our congestion control steers."""
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client.settimeout(20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, NAME)
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            peer.settimeout(20)
            left = size
            while left:
                client.sendall(bytes(min(left, 10_000)))
                got = 0
                while got < min(left, 10_000):
                    got += len(peer.recv(10_000))
                left -= min(left, 10_000)


def registered() -> bool:
    return NAME.decode() in KNOWN.read_text().split()


def test_a_table_is_registered_used_and_taken_back(obj):
    assert not registered()
    with obj.maps.steady.attach() as link:
        assert link.type == "struct_ops"
        assert registered()
        transfer()
        assert obj.asked > 0
        assert obj.asked % 10 == 0
        with pytest.raises(KernelRefused) as caught:
            obj.maps.steady.attach()
        assert "registered already" in caught.value.hint
    assert not registered()
    (again,) = obj.attach()  # a table is what this object has to attach
    assert registered()
    obj.close()
    assert again.closed
    assert not registered()
    with pytest.raises(ClosedError):
        obj.maps.steady.attach()


def test_the_table_is_exchanged_in_place(obj):
    before = open_descriptors()
    obj.maps.steady.attach()
    obj.update(steady("-DWINDOW=7"))
    assert registered()
    counted = obj.asked
    transfer()
    assert obj.asked > counted
    assert (obj.asked - counted) % 7 == 0
    (link,) = obj.links
    assert link.updatable
    link.close()
    assert not registered()
    assert open_descriptors() <= before + 1


def test_the_newer_section_is_taken_as_well():
    needs("btf", "program:struct_ops")
    limit = kernel_objects()
    with ebpf.load(steady('-DTABLE=".struct_ops.link"')) as obj:
        assert obj.maps.steady.type == "struct_ops"
        with obj.maps.steady.attach():
            assert registered()
            assert NAME in obj.maps.steady[0]
    assert settles(limit)


def test_what_cannot_be_attached_says_why(obj):
    with pytest.raises(Unsupported, match="a function in a table"):
        obj.programs.steady_undo.attach()
    with (
        ebpf.load(steady("-DINCOMPLETE"), programs=["steady_ssthresh", "steady_avoid"]) as lacking,
        pytest.raises(KernelRefused, match="register steady") as caught,
    ):
        lacking.maps.steady.attach()
    assert "lacks a function" in caught.value.hint


def test_a_table_without_one_of_its_programs():
    needs("btf", "program:struct_ops")
    with ebpf.load(steady(), programs=["steady_ssthresh"]) as obj:
        with pytest.raises(KernelRefused, match="register steady"):
            obj.maps.steady.attach()
        assert not registered()

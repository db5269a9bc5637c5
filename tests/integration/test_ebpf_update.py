"""Programs exchanged while they run: nothing is missed, and what fails changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from bpf_objects import built, kernel_objects, needs, open_descriptors, settles

from hastack import ebpf
from hastack.errors import ClosedError, InvalidArgument, KernelRefused, MapIncompatible, Unsupported


def version(number: int) -> ebpf.Spec:
    return ebpf.open(built("version", f"-DVERSION={number}"), name="version")


@pytest.fixture
def obj():
    needs("program:cgroup_skb", "program:raw_tracepoint")
    with ebpf.load(version(1), programs=["count", "gone"], globals={"threshold": 9}) as made:
        yield made


class Sender:
    """A process in a cgroup that sends datagrams over loopback and counts them."""

    CODE = """
import socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port, sent = int(sys.argv[2]), 0
print("ready", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(50):
        s.sendto(b"x", ("127.0.0.1", port)); sent += 1
print(sent, flush=True)
"""

    def __init__(self, folder) -> None:
        self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sink.bind(("127.0.0.1", 0))
        port = str(self.sink.getsockname()[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(folder), port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> int:
        out, _ = self.process.communicate("stop\n", timeout=30)
        self.sink.close()
        return int(out)


def test_two_hundred_swaps_miss_no_packet(obj, cgroup):
    swaps = int(os.environ.get("HASTACK_SWAPS", "200"))
    with obj.count.attach(cgroup) as link:
        sender = Sender(cgroup)
        try:
            first = obj.count
            with obj.prepare(version(2)) as other:
                for n in range(swaps):
                    link.update(other.count if n % 2 == 0 else first)
                    if n % 20 == 0:
                        time.sleep(0.005)
                link.update(first)
        finally:
            sent = sender.stop()
        assert sent > swaps
        assert obj.packets == sent == sum(obj.by_version)
        assert all(obj.globals.by_version[:2])


def test_an_update_keeps_maps_counters_and_links(obj, cgroup):
    table, before = obj.table, open_descriptors()
    link = obj.count.attach(cgroup)
    old = obj.count
    sender = Sender(cgroup)
    try:
        obj.update(version(2))
        obj.update(version(1))
        obj.update(version(2))
    finally:
        sent = sender.stop()
    assert obj.packets == sent
    assert link.program is obj.count
    assert link.query()["program_id"] == obj.count.id
    assert table is obj.maps.table
    assert table[9].packets == sent  # the constant kept its value, the map its entry
    assert obj.spec.programs.keys() == {"count", "raw"}
    with pytest.raises(ClosedError):
        old.info()
    link.close()
    del old
    assert open_descriptors() == before - 1  # version 2 has one program less


def test_another_layout_follows_the_stated_policy(obj):
    obj.table[1] = {"packets": 5, "bytes": 6}
    loaded, before = kernel_objects(), open_descriptors()
    with pytest.raises(MapIncompatible, match="layout of values"):
        obj.update(version(3))
    with pytest.raises(InvalidArgument, match="on_incompatible='x'"):
        obj.update(version(3), on_incompatible="x")
    assert open_descriptors() == before
    assert settles(loaded)
    obj.update(version(3), on_incompatible="migrate")
    assert tuple(obj.table[1]) == (5, 0, 0, 6)
    obj.update(version(1), on_incompatible="recreate")
    assert list(obj.table.items()) == []


def test_variables_are_carried_by_name(obj):
    obj.globals.packets = 77
    obj.globals.by_version = (1, 2, 3, 4)
    obj.update(version(4))
    assert (obj.packets, obj.by_version, obj.added, obj.moved) == (77, (1, 2, 3, 4), 0, 4)
    obj.globals.moved = 5
    obj.update(version(1))
    assert (obj.packets, obj.by_version) == (77, (1, 2, 3, 4))


def test_what_cannot_be_exchanged_changes_nothing(obj, cgroup):
    with obj.count.attach(cgroup) as first, obj.gone.attach(cgroup):
        with pytest.raises(InvalidArgument, match="a program gone, which is attached"):
            obj.update(version(2))
        assert first.query()["program_id"] == obj.count.id
    with ebpf.load(version(1), programs=["raw"]) as other, other.raw.attach() as link:
        with pytest.raises(Unsupported, match="swappable=True"):
            other.update(version(2))
        assert link.program is other.raw
        other.raw.info()
    with pytest.raises(ClosedError):
        other.update(version(2))
    with pytest.raises(ClosedError):
        other.prepare(version(2))


def test_a_refusal_in_the_middle_is_rolled_back(obj, cgroup):
    links = [obj.count.attach(cgroup), obj.gone.attach(cgroup)]
    candidate = obj.prepare(version(1), programs=["count", "gone", "raw"])
    # The second link's successor is of another type: the kernel itself refuses it.
    parts = candidate.programs._parts
    parts["gone"] = parts["raw"]
    with pytest.raises(KernelRefused, match="EINVAL"):
        obj.update(candidate)
    assert [link.query()["program_id"] for link in links] == [obj.count.id, obj.gone.id]
    assert links[0].program is obj.count
    candidate.close()


def swap_under_hits(obj, attach, first, second, hits, swaps) -> int:
    """Exchange two programs while ``hits()`` runs in another thread."""
    link = attach()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (hits(), done.set()))
    thread.start()
    count = 0
    while count < swaps or not done.is_set():
        link.update(second if count % 2 == 0 else first)
        count += 1
    thread.join()
    link.close()
    return count


def test_three_hundred_slot_swaps_miss_no_hit(probed):
    needs("map:prog_array", "program:kprobe")
    spec = ebpf.open(built("basics"), name="basics")
    with ebpf.load(spec, programs=["slot_a", "slot_b"]) as obj:
        total = 100_000
        count = swap_under_hits(
            obj,
            lambda: obj.slot_a.attach(f"{probed}:first", swappable=True),
            obj.slot_a,
            obj.slot_b,
            lambda: subprocess.run([probed, str(total)], check=True),
            300,
        )
        assert count >= 300
        assert obj.seen_a + obj.seen_b == total
        assert obj.seen_a > 0
        assert obj.seen_b > 0


def test_an_object_is_updated_through_slots(probed):
    needs("map:prog_array", "program:raw_tracepoint")
    before = open_descriptors()
    with ebpf.load(version(1), programs=["raw"]) as obj:
        link = obj.raw.attach(swappable=True)
        assert link.updatable
        obj.update(version(2))
        assert link.program is obj.raw
        os.getppid()
        with pytest.raises(InvalidArgument, match="swappable"):
            ebpf.load(version(1), programs=["count"]).count.attach("/", swappable=True)
    assert link.closed
    del obj, link
    assert open_descriptors() == before

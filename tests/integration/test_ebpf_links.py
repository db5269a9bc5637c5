"""Every kind of program that the kernel attaches: it runs, it is exchanged, it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bpf_objects import built, kernel_objects, needs, open_descriptors, settles
from elf_images import Image
from forking import run_in_fork

from hastack import ebpf
from hastack.ebpf import _kernel
from hastack.errors import ClosedError, InvalidArgument, KernelRefused, Unsupported


@pytest.fixture(scope="module")
def spec():
    return ebpf.open(built("basics"), name="basics")


@pytest.fixture
def load(spec):
    made = []

    def load(*programs: str, **options) -> ebpf.Object:
        needs(*{f"program:{spec.programs[name].type}" for name in programs})
        made.append(ebpf.load(spec, programs=programs, **options))
        return made[-1]

    yield load
    for obj in made:
        obj.close()


def inside(cgroup: Path, code: str) -> str:
    """Run Python in a cgroup; what it printed."""
    script = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({n}): s.sendto(b"x", ("127.0.0.1", {port}))
"""


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
        each.bind(("127.0.0.1", 0))
        yield each.getsockname()[1]


def test_a_cgroup_program_counts_exchanges_and_ends(load, cgroup, port):
    obj = load("egress", "egress_other", "connect4")
    with obj.egress.attach(cgroup) as link:
        assert link.type == "cgroup"
        assert link.updatable
        inside(cgroup, UDP.format(n=7, port=port))
        assert obj.hits == 7
        link.update(obj.egress_other)
        assert link.query()["program_id"] == obj.egress_other.id
        inside(cgroup, UDP.format(n=2, port=port))
        assert obj.hits == 2_000_007
        with pytest.raises(KernelRefused, match="EINVAL"):
            link.update(obj.connect4)
        assert link.program is obj.egress_other
        assert link in obj.links
    assert obj.links == ()
    inside(cgroup, UDP.format(n=5, port=port))
    assert obj.hits == 2_000_007
    with pytest.raises(ClosedError):
        link.update(obj.egress)
    assert "closed" in repr(link)


def test_cgroup_programs_of_every_type(load, cgroup):
    obj = load("connect4", "sock_create", "setsockopt", "sysctl", "dev", "sock_events")
    names = list(obj.programs)
    links = [obj.programs[name].attach(cgroup=cgroup) for name in names]
    assert {link.type for link in links} == {"cgroup"}
    out = inside(
        cgroup,
        """
import socket
s = socket.socket()
try: s.connect(("127.0.0.1", 9)); print("connected")
except PermissionError: print("denied")
open("/proc/sys/kernel/ostype").read()
""",
    )
    assert out == "denied"
    assert obj.hits >= 2  # a socket and a sysctl
    for link in links:
        link.close()


def test_where_a_cgroup_should_be(load, cgroup):
    obj = load("egress")
    with pytest.raises(InvalidArgument, match="folder of a cgroup"):
        obj.egress.attach()
    with pytest.raises(FileNotFoundError):
        obj.egress.attach("/nowhere")
    with pytest.raises(KernelRefused):
        obj.egress.attach("/tmp")
    with pytest.raises(InvalidArgument, match="options"):
        obj.egress.attach(cgroup, colour="red")


def test_raw_tracepoints_and_tracepoints(load):
    obj = load("raw", "tp")
    with obj.raw.attach() as link:
        os.getppid()
        assert link.type == "raw_tracepoint"
        assert not link.updatable
        with pytest.raises(KernelRefused):
            link.update(obj.raw)
    assert obj.hits > 0
    needs("tracefs")
    obj.globals.hits = 0
    with obj.tp.attach() as link:
        for _ in range(5):
            os.getppid()
        assert link.type == "perf_event"
    assert obj.hits >= 5
    with pytest.raises(KernelRefused, match="no tracepoint of that name"):
        obj.raw.attach("no_such_tracepoint")
    with pytest.raises(KernelRefused, match="no tracepoint of that name"):
        obj.tp.attach("syscalls/none")
    with pytest.raises(InvalidArgument, match="a tracepoint"):
        obj.tp.attach("syscalls")


def test_uprobes_count_every_call(load, probed):
    obj = load("up", "down")
    with obj.up.attach(f"{probed}:first") as link:
        subprocess.run([probed, "20"], check=True)
        assert obj.hits == 20
        assert "first" not in link.target  # by offset: names may be stripped later
    subprocess.run([probed, "20"], check=True)
    assert obj.hits == 20
    with obj.up.attach(probed, symbol="first"), obj.down.attach(probed, symbol="second"):
        subprocess.run([probed, "3"], check=True)
    assert obj.hits == 20 + 3 + 300
    with obj.up.attach(f"{probed}:first", ret=True):
        subprocess.run([probed, "1"], check=True)
    assert obj.hits == 324


def test_many_uprobes_on_one_link(load, probed):
    needs("link:uprobe_multi")
    obj = load("up")
    with obj.up.attach(probed, symbols=["first", "second"]) as link:
        assert link.type == "uprobe_multi"
        subprocess.run([probed, "10"], check=True)
    assert obj.hits == 20


def test_a_uprobe_without_uprobe_multi(load, probed, monkeypatch):
    from hastack.ebpf import _open

    monkeypatch.setattr(_open, "has", lambda name: False)
    obj = load("up", "down")
    assert obj.up.attach_type == ""
    with obj.up.attach(f"{probed}:first") as link, obj.down.attach(probed, symbol="second"):
        assert link.type == "perf_event"
        subprocess.run([probed, "2"], check=True)
    assert obj.hits == 2 + 200
    with pytest.raises(Unsupported, match="one link for several uprobes"):
        obj.up.attach(probed, symbols=["first", "second"])


def test_uprobes_of_one_process(load):
    obj = load("named")
    before = open_descriptors()
    with obj.named.attach(pid=os.getpid()):
        import ctypes

        ctypes.CDLL(None).getppid()
        subprocess.run([sys.executable, "-c", "import os; os.getppid()"], check=True)
        assert obj.hits == 1
    assert open_descriptors() == before


def test_where_no_uprobe_goes(load, probed, tmp_path):
    obj = load("up")
    if os.uname().machine == "x86_64":
        with pytest.raises(Unsupported, match="5-byte nop"):
            obj.up.attach(f"{probed}:padded")
        with obj.up.attach(f"{probed}:padded+5"):
            subprocess.run([probed, "1"], check=True)
        assert obj.hits == 1
    for target, match in (
        (None, "a path and symbol"),
        (probed, "a path and symbol"),
        (f"{probed}:none", "a function of that file"),
        ("no-such-program:main", "a program or library by name"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            obj.up.attach(target)
    with pytest.raises(FileNotFoundError):
        obj.up.attach("/no/such/file:main")
    image = Image(type=3, machine=62, segments=[(1, 5, 0, 0x400000, 0, 0x1000, 0x1000, 4096)])
    image.symbol("main.main", image.code(".text", bytes(64)), 0x400100, 8)
    image.add(".gopclntab", bytes(8))
    built_by_go = tmp_path / "go"
    built_by_go.write_bytes(image.build())
    with pytest.raises(Unsupported, match="Go moves its stacks"):
        obj.up.attach(f"{built_by_go}:main.main", ret=True)


def test_usdt_probes_switch_themselves_on(load, probed):
    if os.uname().machine != "x86_64":
        pytest.skip("the program that is probed is written for x86-64")
    obj = load("usdt")
    subprocess.run([probed, "5"], check=True)
    with obj.usdt.attach(f"{probed}:app:hit"):
        subprocess.run([probed, "5"], check=True)
    subprocess.run([probed, "5"], check=True)
    assert obj.seen_a == 5
    for target, match in ((f"{probed}:app:none", "a USDT probe"), (probed, "provider:name")):
        with pytest.raises(InvalidArgument, match=match):
            obj.usdt.attach(target)


def test_usdt_probes_bring_their_arguments(probed):
    if os.uname().machine != "x86_64":
        pytest.skip("the program that is probed is written for x86-64")
    needs("program:kprobe")
    with ebpf.load(built("usdt", "-D__TARGET_ARCH_x86")) as obj:
        told = obj.programs.told
        with told.attach(f"{probed}:app:tell", cookie=7):
            subprocess.run([probed, "2"], check=True)
        found = [obj.small, obj.large, obj.there, obj.constant, obj.count, obj.cookie, obj.calls]
        assert found == [-2, 1 << 40, -4, -9, 4, 7, 2]
        # The map has room for two: equal probes share one, and what ends leaves its own.
        same = [told.attach(f"{probed}:app:tell", cookie=8) for _ in range(2)]
        with told.attach(f"{probed}:app:tell", cookie=9):
            with pytest.raises(Unsupported, match="has room for 2"):
                told.attach(f"{probed}:app:tell", cookie=10)
            same[0].close()
            with pytest.raises(Unsupported, match="has room for 2"):
                told.attach(f"{probed}:app:tell", cookie=10)
            same[1].close()
            with told.attach(f"{probed}:app:tell", cookie=10):
                subprocess.run([probed, "1"], check=True)
        assert obj.cookie in {9, 10}
        assert obj.calls == 4


def test_kernel_probes_are_not_attached(load):
    obj = load("kernel")
    with pytest.raises(Unsupported, match="attaches no kprobes"):
        obj.kernel.attach()


def test_perf_events_tick(load):
    obj = load("tick")
    links = [obj.tick.attach(frequency=999, cpu=cpu) for cpu in range(_kernel.possible_cpus())]
    ends = time.monotonic() + 20
    while not obj.hits and time.monotonic() < ends:
        sum(range(10000))
    for link in links:
        link.close()
    assert obj.hits > 0


@pytest.fixture
def veth() -> Iterator[str]:
    """An interface in a network namespace of its own, which this process enters for the test."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    clone_newnet = 0x40000000
    if libc.unshare(clone_newnet):
        os.close(home)
        pytest.skip("no network namespace of our own")
    try:
        for line in (
            "ip link add left type veth peer name right",
            "ip link set lo up",
            "ip addr add 10.77.0.1/24 dev left",
            "ip link set left up",
            "ip link set right up",
        ):
            done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{line}: {done.stderr.strip()}")
        yield "right"
    finally:
        libc.setns(home, clone_newnet)
        os.close(home)


def send(count: int) -> None:
    """Frames that go out of the left end and come in at the right one."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as each:
        each.bind(("left", 0))
        for _ in range(count):
            each.send(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(50))


def arrives(read, least: int) -> bool:
    ends = time.monotonic() + 10
    while read() < least and time.monotonic() < ends:
        time.sleep(0.01)
    return read() >= least


def test_xdp_and_tcx(load, veth):
    obj = load("xdp_count", "tcx_in", "pass", "fill")
    with obj.xdp_count.attach(veth, mode="generic") as link:
        assert link.type == "xdp"
        send(10)
        assert arrives(lambda: obj.hits, 10)
        link.update(obj.fill)
        with pytest.raises(InvalidArgument, match="mode='odd'"):
            obj.xdp_count.attach(veth, mode="odd")
    needs("link:tcx")
    obj.globals.hits = 0
    with obj.tcx_in.attach(veth) as link:
        assert link.type == "tcx"
        send(10)
        assert arrives(lambda: obj.hits, 10)
        link.update(obj.tcx_in)
    with obj.programs["pass"].attach(veth, direction="egress") as link:
        assert link.type == "tcx"
    with pytest.raises(InvalidArgument, match="'ingress' or 'egress'"):
        obj.programs["pass"].attach(veth)
    with pytest.raises(InvalidArgument, match="'ingress' or 'egress'"):
        obj.programs["pass"].attach(veth, direction="up")
    for wrong in ("none", None, 0):
        with pytest.raises(InvalidArgument, match="interface"):
            obj.xdp_count.attach(wrong)


def test_socket_lookup(load, veth):
    obj = load("lookup")
    with obj.lookup.attach() as link, socket.socket() as server:
        assert link.type == "netns"
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
        assert obj.hits >= 1
        link.update(obj.lookup)


def test_socket_messages(load):
    obj = load("message", "verdict")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            peer, _ = server.accept()
            with peer, obj.message.attach(obj.maps.sockets) as link:
                obj.maps.sockets[0] = client.fileno()
                client.sendall(b"hello")
                assert peer.recv(10) == b"hello"
                assert obj.hits >= 1
                assert link.query()["type"] == "sockmap"
            assert link.closed
            link.close()
            obj.verdict.attach(map=obj.maps.sockets).close()
    with pytest.raises(InvalidArgument, match="sockmap or sockhash"):
        obj.message.attach()


def test_iterators_write_what_there_is():
    needs("btf")
    with ebpf.load(built("iterator"), programs=["maps"]) as obj:
        with (
            obj.programs["maps"].attach() as link,
            ebpf.Map.create("hash", key_size=4, value_size=4, max_entries=4711) as each,
        ):
            assert link.type == "iter"
            lines = link.read().decode().splitlines()
            assert f"{each.id} 4711" in lines
            link.update(obj.programs["maps"])
        with pytest.raises(ClosedError):
            link.read()


def test_iterators_over_one_map():
    needs("btf")
    with (
        ebpf.load(built("iterator"), programs=["entries"]) as obj,
        ebpf.Map.create("hash", key_size=4, value_size=4, max_entries=8) as each,
    ):
        each.update({b"abcd": b"1234", b"efgh": b"5678"})
        with obj.entries.attach(map=each) as link:
            found = link.read()
            assert sorted((found[:4], found[4:])) == [b"abcd", b"efgh"]
        assert obj.elements == 2


def test_running_by_hand(load):
    obj = load("fill", "pass", "raw", "lookup")
    run = obj.fill.test_run(bytes(64), repeat=100)
    assert run.result == 3
    assert run.data == bytes(64)
    assert obj.maps.numbers[0] == 100
    context = bytearray(192)
    run = obj.programs["pass"].test_run(bytes(64), context=bytes(context))
    assert (run.result, run.context[8]) == (0, 9)  # the mark
    obj.globals.hits = 0
    obj.raw.test_run(context=bytes(16), cpu=0)
    assert obj.hits == 1
    with pytest.raises(KernelRefused, match="run fill once"):
        obj.fill.test_run(b"short")


def test_all_or_none_are_attached(spec, load):
    obj = load("raw", "named")
    assert len(obj.attach()) == 2
    other = load("raw", "egress")
    with pytest.raises(InvalidArgument, match="cgroup"):
        other.attach()
    assert other.links == ()
    other.close()
    with pytest.raises(ClosedError):
        other.raw.attach()


def test_links_end_with_their_object(load):
    before = kernel_objects()["link"]
    obj = load("raw", "named")
    obj.attach()
    assert kernel_objects()["link"] == before + 2
    obj.close()
    assert settles({"link": before})


def interrupted(obj: ebpf.Object, ring: ebpf.RingBuffer) -> None:
    for _ in ring.take():
        raise KeyboardInterrupt


def signalled(obj: ebpf.Object, ring: ebpf.RingBuffer) -> None:
    """A real SIGINT in the middle of whatever is called just then."""
    timer = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        while True:
            obj.burst.test_run(bytes([9]) + bytes(63))
            ring.take()
            obj.maps.table[1] = {"count": 1}
    finally:
        timer.join()


def closed_by_a_thread(obj: ebpf.Object, ring: ebpf.RingBuffer) -> None:
    thread = threading.Thread(target=obj.close)
    thread.start()
    try:
        while True:
            obj.burst.test_run(bytes([9]) + bytes(63))
            ring.read_batch(timeout=0.01)
            obj.maps.table[1] = {"count": 1}
    finally:
        thread.join()


def forked(obj: ebpf.Object, ring: ebpf.RingBuffer) -> None:
    run_in_fork(obj.close)
    obj.burst.test_run(bytes([9]) + bytes(63))
    assert len(ring.take()) == 18


def awaited(obj: ebpf.Object, ring: ebpf.RingBuffer) -> None:
    asyncio.run(ring.read_batch_async(timeout=0.0))


FAULTS = (interrupted, signalled, closed_by_a_thread, forked, awaited)


def test_loads_attaches_and_closes_with_faults(spec):
    """Shortened; HASTACK_CYCLES=1000 runs all."""
    needs("program:raw_tracepoint")
    cycles = int(os.environ.get("HASTACK_CYCLES", "40"))

    def cycle(number: int) -> None:
        obj = ebpf.load(spec, programs=["raw", "burst"])
        ring = obj.ring("events")
        try:
            with obj.raw.attach():
                obj.burst.test_run(bytes([9]) + bytes(63))
                FAULTS[number % len(FAULTS)](obj, ring)
        except (KeyboardInterrupt, ClosedError):
            pass
        finally:
            obj.close()

    for number in range(len(FAULTS)):
        cycle(number)
    before, objects = open_descriptors(), kernel_objects()
    for number in range(cycles):
        cycle(number)
    assert open_descriptors() == before
    assert settles(objects)

"""Events out of a ring buffer, maps, loading; against a callback per event by ctypes and by cffi.

usage: python bench/bench_ebpf.py     (as root, with clang and libbpf)

Times are processor time of the reading thread: one core, whatever else the machine does.
"""

import ctypes
import platform
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from harness import table

from hastack import ebpf
from hastack.ebpf import _libbpf
from hastack.errors import Unsupported

HERE = Path(__file__).parent
ROUNDS = 15
FORM = struct.Struct("=IIQQQ16s")


def cost(call, *, number: int = 20_000, rounds: int = 7) -> float:
    """Median nanoseconds of this thread's processor time per call, system calls included."""
    costs = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        for _ in range(number):
            call()
        costs.append((time.thread_time_ns() - start) / number)
    return sorted(costs)[rounds // 2]


def build() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "events.bpf.o"
        include = f"-I/usr/include/{platform.machine()}-linux-gnu"
        source = str(HERE / "ebpf_events.bpf.c")
        command = ["clang", "-g", "-O2", "-target", "bpf", include, "-c", source, "-o", str(out)]
        subprocess.run(command, check=True)
        return out.read_bytes()


def per_event(obj, consume) -> float:
    """Median nanoseconds per event of what ``consume()`` takes out after each burst."""
    costs = []
    for _ in range(ROUNDS):
        obj.burst.test_run(bytes(64))
        start = time.thread_time_ns()
        count = consume()
        costs.append((time.thread_time_ns() - start) / count)
    return sorted(costs)[ROUNDS // 2]


def all_of(ring, use=len):
    def consume() -> int:
        count = 0
        while batch := ring.take():
            use(batch)
            count += len(batch)
        return count

    return consume


class Event(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint32),
        ("n", ctypes.c_uint32),
        ("at", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("comm", ctypes.c_char * 16),
    ]


def by_ctypes(fd: int):
    """What bcc's ring_buffer does: a ctypes callback per event, and a cast to a structure."""
    lib = ctypes.CDLL("libbpf.so.1")
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    seen = []

    def event(_context, data, size):
        each = ctypes.cast(data, ctypes.POINTER(Event)).contents
        seen.append((each.pid, each.n, each.at, each.sent, each.received, each.comm))
        return 0

    callback = kind(event)
    lib.ring_buffer__new.restype = ctypes.c_void_p
    lib.ring_buffer__new.argtypes = [ctypes.c_int, kind, ctypes.c_void_p, ctypes.c_void_p]
    lib.ring_buffer__consume.argtypes = [ctypes.c_void_p]
    reader = lib.ring_buffer__new(fd, callback, None, None)

    def consume() -> int:
        seen.clear()
        lib.ring_buffer__consume(reader)
        return len(seen)

    consume.keep = callback
    return consume


def by_cffi(fd: int):
    """A cffi callback per event, whose bytes are unpacked."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("""
        typedef int (*sample_fn)(void *ctx, void *data, size_t size);
        void *ring_buffer__new(int fd, sample_fn fn, void *ctx, void *opts);
        int ring_buffer__consume(void *rb);
    """)
    lib = ffi.dlopen("libbpf.so.1")
    seen, unpack = [], FORM.unpack_from

    @ffi.callback("sample_fn", error=-5)
    def event(_context, data, size):
        seen.append(unpack(ffi.buffer(data, size)))
        return 0

    reader = lib.ring_buffer__new(fd, event, ffi.NULL, ffi.NULL)

    def consume() -> int:
        seen.clear()
        lib.ring_buffer__consume(reader)
        return len(seen)

    consume.keep = event
    return consume


def events(content: bytes) -> None:
    rows = {}
    with ebpf.load(content, name="bench", programs=["burst"]) as obj:
        for label, extension in (("with the extension", True), ("without", False)):
            try:
                reader = obj.ring("events", extension=extension)
            except Unsupported as error:
                print(f"left out: {error}")
                continue
            with reader as ring:
                rows[f"hastack {label}: tuples"] = per_event(obj, all_of(ring))
                use = ebpf.Batch.objects
                rows[f"hastack {label}: objects"] = per_event(obj, all_of(ring, use))
    # Readers of one map share its position: each peer gets an object of its own.
    for label, peer in (("ctypes callback (as bcc)", by_ctypes), ("cffi callback", by_cffi)):
        with ebpf.load(content, name="bench", programs=["burst"]) as obj:
            rows[label] = per_event(obj, peer(obj.maps.events.fd))
    table("One event of 48 bytes", rows, base="hastack without: tuples")
    for name, cost in rows.items():
        print(f"  {name}: {1e3 / cost:.2f} million/s")


def maps(content: bytes) -> None:
    with ebpf.load(content, name="bench", programs=["burst"]) as obj:
        held = obj.table
        held.update((n, n) for n in range(60_000))
        library = _libbpf.library()
        fd, key, room = held.fd, (5).to_bytes(4, "little"), bytearray(8)
        view = library.ffi.from_buffer(room)
        call = library.lib.bpf_map_lookup_elem_flags
        rows = {
            "the call alone, by cffi": cost(lambda: call(fd, key, view, 0)),
            "map[key]": cost(lambda: held[5]),
            "map[key] = value": cost(lambda: held.put(5, 6)),
            "global": cost(lambda: obj.globals.hits),
        }
        rows["items(), per entry"] = cost(lambda: list(held.items()), number=1) / 60_000
        entries = {n: n for n in range(60_000)}
        rows["update(), per entry"] = cost(lambda: held.update(entries), number=1) / 60_000
        table("Maps", rows, base="the call alone, by cffi")


def loading(content: bytes) -> None:
    rows = {}
    rows["open"] = cost(lambda: ebpf.open(content), number=20) / 1e3
    spec = ebpf.open(content, name="bench")
    folder = tempfile.mkdtemp(prefix="hastack-bench-", dir=root())
    try:

        def cycle() -> None:
            with ebpf.load(spec) as obj:
                obj.count.attach(folder)

        def whole() -> None:
            with ebpf.load(content) as obj:
                obj.count.attach(folder)

        rows["load + attach + close"] = cost(cycle, number=3) / 1e3
        rows["open + load + attach + close"] = cost(whole, number=3) / 1e3
        with ebpf.load(spec) as obj, obj.prepare(spec) as other:
            link = obj.count.attach(folder)
            programs = [obj.count, other.count]
            rows["link.update"] = (
                cost(lambda: (link.update(programs[1]), link.update(programs[0])), number=200) / 2e3
            )
            link.close()
    finally:
        Path(folder).rmdir()
    table("Loading", rows, base="open", unit="us")


def root() -> str:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1]
    raise SystemExit("no cgroup of version 2 is mounted")


if __name__ == "__main__":
    held = build()
    events(held)
    maps(held)
    loading(held)

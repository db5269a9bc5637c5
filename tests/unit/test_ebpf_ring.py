"""Records of a ring buffer, from memory that a test has laid out."""

from __future__ import annotations

from struct import pack

from elf_images import Types
from hypothesis import given
from hypothesis import strategies as st

from hastack.ebpf import _btf, _codec
from hastack.ebpf._perf_records import take
from hastack.ebpf._ring import BUSY, DISCARD, Walker


def codec(*members: str) -> _codec.Codec:
    t = Types()
    number = t.int("unsigned int", 4, 0)
    pair = t.compound("struct", "pair", 8, ("x", number, 0), ("y", number, 32))
    kinds = {"number": (number, 4), "pair": (pair, 8)}
    fields, at = [], 0
    for n, name in enumerate(members):
        fields.append((f"f{n}", kinds[name][0], at * 8))
        at += kinds[name][1]
    made = t.compound("struct", "event", at, *fields)
    return _codec.codec_of(_btf.parse(memoryview(t.build()), "little"), made, "little")


class Memory:
    """A ring as the kernel keeps it: written with wrapping, read as if mapped twice."""

    def __init__(self, size: int = 4096, start: int = 0) -> None:
        self.size = size
        self.data = bytearray(2 * size)
        self.end = start

    def write(self, raw: bytes, flags: int = 0) -> None:
        record = pack("<II", len(raw) | flags, 0) + raw
        record = record.ljust((len(record) + 7) // 8 * 8, b"\0")
        for byte in record:
            at = self.end % self.size
            self.data[at] = self.data[at + self.size] = byte
            self.end += 1

    def take(self, walker: Walker, start: int, limit: int = 1000):
        view = memoryview(self.data)
        return walker.take(view, view.cast("I"), start, self.end, limit)


def test_runs_of_one_size_across_the_wrap():
    memory = Memory(start=4096 * 7 + 4000)
    start = memory.end
    for n in range(50):
        memory.write(pack("<II", n, n * n))
    taken = memory.take(Walker(4096, codec("number", "number")), start)
    assert taken.rows == [(n, n * n) for n in range(50)]
    assert (taken.position, taken.stopped, taken.discarded) == (memory.end, False, 0)


def test_nested_types_are_decoded_one_by_one():
    memory = Memory()
    for n in range(6):
        memory.write(pack("<III", n, 1, 2))
    taken = memory.take(Walker(4096, codec("number", "pair")), 0)
    assert taken.rows[5].f1.y == 2


def test_a_record_that_is_not_submitted_stops_the_reader():
    memory = Memory()
    for n in range(5):
        memory.write(pack("<I", n), BUSY if n == 3 else 0)
    walker = Walker(4096, codec("number"))
    taken = memory.take(walker, 0)
    assert (taken.rows, taken.stopped) == ([(0,), (1,), (2,)], True)
    again = memory.take(walker, taken.position)
    assert (again.rows, again.stopped, again.position) == ([], True, taken.position)


@given(
    st.lists(
        st.tuples(st.sampled_from(["good", "thrown away", "other"]), st.integers(1, 9)), max_size=12
    ),
    st.integers(0, 511),
    st.integers(1, 20),
    st.booleans(),
)
def test_every_record_is_accounted_for(groups, start, limit, typed):
    memory = Memory(start=start * 8)
    begin, expected = memory.end, []
    for kind, count in groups:
        for n in range(count):
            if kind == "good":
                memory.write(pack("<II", n, 7))
            elif kind == "other":
                memory.write(b"odd" * n)
            else:
                memory.write(pack("<II", n, 7), DISCARD)
            expected.append(kind)
    walker = Walker(4096, codec("number", "number") if typed else None)
    rows = others = discarded = 0
    position = begin
    while position < memory.end:
        taken = memory.take(walker, position, limit)
        assert len(taken.rows) + len(taken.others) <= limit
        assert taken.position > position
        position = taken.position
        rows += len(taken.rows)
        others += len(taken.others)
        discarded += taken.discarded
    assert discarded == expected.count("thrown away")
    if typed:
        assert (rows, others) == (expected.count("good"), expected.count("other"))
    else:
        assert rows == len(expected) - discarded


def perf_record(kind: int, body: bytes) -> bytes:
    body = body.ljust((len(body) + 7) // 8 * 8, b"\0")
    return pack("<IHH", kind, 0, 8 + len(body)) + body


def test_perf_records_across_the_wrap():
    written = b"".join(
        (
            perf_record(9, pack("<I", 12) + b"first sample"),
            perf_record(2, pack("<QQ", 1, 7)),
            perf_record(77, b"something newer"),
            perf_record(9, pack("<I", 4) + b"last"),
        )
    )
    for start in range(0, 512, 8):
        memory = bytearray(512)
        for n, byte in enumerate(written):
            memory[(start + n) % 512] = byte
        view = memoryview(memory)
        base = 512 * 9 + start
        found = take(view, base, base + len(written), 100)
        assert found == ([b"first sample", b"last"], 7, base + len(written))
        first = take(view, base, base + len(written), 1)
        assert first.samples == [b"first sample"]
        assert take(view, first.position, base + len(written), 9).samples == [b"last"]


def test_a_perf_record_that_lies_ends_the_reading():
    view = memoryview(bytearray(512))
    assert take(view, 0, 64, 10) == ([], 0, 64)

"""The file of a worker's numbers, byte by byte, and what they add up to."""

import struct
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.observe._mapped_format import (
    HEADER,
    CellRecord,
    Descriptor,
    Malformed,
    header,
    numbers_at,
    pack_cell,
    pack_descriptor,
    parse,
    read_exemplar,
    used,
    write_exemplar,
)
from hastack.observe._series import Identities, Series, merge, read, remains

IDENTITIES = Identities()
names = st.text(max_size=8)
scalars = st.one_of(names, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
attributes = st.dictionaries(names, scalars | st.tuples(names, names), max_size=4).map(
    lambda d: tuple(sorted(d.items()))
)
descriptors = st.builds(
    Descriptor,
    name=names,
    kind=st.sampled_from(["counter", "updown", "gauge", "histogram"]),
    unit=names,
    description=names,
    scope=st.tuples(names, names),
    bounds=st.lists(st.floats(-100, 100), max_size=5, unique=True).map(lambda b: tuple(sorted(b))),
    across=st.sampled_from(["sum", "max", "min", "last", "each"]),
)


def file_of(*metrics):
    """A file with the given metrics, each with its cells."""
    data = bytearray(header(7))
    for descriptor, cells in metrics:
        place = len(data)
        data += pack_descriptor(descriptor)
        for each in cells:
            data += pack_cell(descriptor, place, each)
    struct.pack_into("=Q", data, 8, len(data))
    return data


@given(st.lists(st.tuples(descriptors, st.lists(attributes, max_size=3)), max_size=4))
def test_what_was_written_is_read(metrics):
    data = memoryview(file_of(*metrics))
    known = {}
    cells = list(parse(data, HEADER, used(data), known))
    assert list(known.values()) == [descriptor for descriptor, _ in metrics]
    assert [(c.descriptor, c.attributes) for c in cells] == [
        (descriptor, each) for descriptor, cells in metrics for each in cells
    ]
    for cell in cells:
        assert cell.numbers_at % 8 == 0
        identity = Identities().of(cell.descriptor, cell.attributes)
        series = read(identity, cell, data, data.cast("d"), exemplars=True, worker=3)
        bare = read(identity, cell, data, data.cast("d"), exemplars=False, worker=3)
        assert bare == series
        assert series.numbers == cell.descriptor.zeros
        assert len(series.numbers) == cell.descriptor.numbers
        assert series.exemplars == [None] * cell.descriptor.exemplars


def test_numbers_lie_where_the_writer_puts_them():
    metric = Descriptor("m", "counter")
    record = pack_cell(metric, HEADER, (("k", "v"),))
    data = memoryview(file_of((metric, [(("k", "v"),)])))
    [cell] = parse(data, HEADER, used(data), {})
    assert numbers_at(len(data) - len(record), record) == cell.numbers_at


@given(st.data())
def test_damaged_files_are_said_to_be_and_never_loop(data):
    whole = file_of((Descriptor("m", "histogram", bounds=(1.0,)), [(), (("a", 1),)]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    view = memoryview(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        for cell in parse(view, HEADER, used(view), {}):
            assert isinstance(cell, CellRecord)
            assert cell.exemplars_at <= len(view)
    except Malformed:
        pass


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:10],
        lambda d: b"x" + d[1:],
        lambda d: d[:8] + struct.pack("=Q", len(d) + 8) + d[16:],
        lambda d: d[:8] + struct.pack("=Q", HEADER + 8) + d[16:],
        lambda d: d[: HEADER + 4] + struct.pack("=H", 9) + d[HEADER + 6 :],
        lambda d: d[:HEADER] + struct.pack("=I", 17) + d[HEADER + 4 :],
        lambda d: d[: HEADER + 16] + b"]" + d[HEADER + 17 :],
        lambda d: d[:-88] + struct.pack("=I", 8) + d[-84:],
    ],
)
def test_each_kind_of_damage(damage):
    data = memoryview(bytes(damage(bytes(file_of((Descriptor("m", "counter"), [()]))))))
    with pytest.raises(Malformed):
        list(parse(data, HEADER, used(data), {}))


def test_a_cell_with_other_numbers_than_its_metric_is_malformed():
    one, other = Descriptor("m", "counter"), Descriptor("m", "histogram", bounds=(1.0, 2.0))
    data = bytearray(header(1))
    data += pack_descriptor(one)
    data += pack_cell(other, HEADER, ())
    struct.pack_into("=Q", data, 8, len(data))
    with pytest.raises(Malformed, match="6 numbers of a counter"):
        list(parse(memoryview(data), HEADER, len(data), {}))


def test_too_many_attributes():
    with pytest.raises(Malformed, match="at most 65535"):
        pack_cell(Descriptor("m", "counter"), HEADER, (("k", "x" * 70000),))


def test_an_exemplar_is_whole_or_not_there():
    data = memoryview(bytearray(header(1)) + bytes(48))
    assert read_exemplar(data, HEADER) is None
    write_exemplar(data, HEADER, 1.5, 99, 2**128 - 1, 7)
    assert read_exemplar(data, HEADER) == (1.5, 99, 2**128 - 1, 7)
    data[HEADER] |= 1  # a writer stopped half-way
    assert read_exemplar(data, HEADER) is None
    write_exemplar(data, HEADER, 2.5, 100, 1, 2)
    assert read_exemplar(data, HEADER) == (2.5, 100, 1, 2)


# -- adding up ----------------------------------------------------------------------------


def number(value, *, kind="counter", across="sum", stamp=0.0, worker=1, exemplar=None, attrs=()):
    identity = IDENTITIES.of(Descriptor("m" + across, kind, across=across), attrs)
    return Series(identity, [value, stamp], [exemplar], worker)


def histogram(values, *, worker=1):
    counts = [sum(v <= 1 for v in values), sum(v > 1 for v in values)]
    least, largest = min(values, default=inf), max(values, default=-inf)
    return Series(
        IDENTITIES.of(Descriptor("h", "histogram", bounds=(1.0,)), ()),
        [sum(values), least, largest, *counts],
        [None, None],
        worker,
    )


@given(st.lists(st.integers(0, 1000), max_size=6), st.lists(st.integers(0, 1000), max_size=6))
def test_totals_are_of_the_living_and_the_dead(alive, dead):
    merged = merge(map(number, alive), map(number, dead), IDENTITIES)
    if alive or dead:
        assert [each.numbers[0] for each in merged] == [sum(alive) + sum(dead)]


@given(st.lists(st.lists(st.floats(-5, 5), max_size=4), min_size=1, max_size=5))
def test_histograms_add_up_in_any_order(parts):
    values = [value for part in parts for value in part]
    for order in (parts, parts[::-1]):
        [merged] = merge([histogram(part) for part in order], [], IDENTITIES)
        whole = histogram(values)
        assert merged.numbers[1:] == whole.numbers[1:]
        assert merged.numbers[0] == pytest.approx(whole.numbers[0])


@pytest.mark.parametrize(
    ("across", "expected"),
    [("sum", [8.0]), ("max", [5.0]), ("min", [1.0]), ("last", [1.0]), ("each", [5.0, 1.0, 2.0])],
)
def test_gauges_of_the_living(across, expected):
    cells = [
        number(5.0, kind="gauge", across=across, stamp=1.0, worker=1),
        number(1.0, kind="gauge", across=across, stamp=3.0, worker=2),
        number(2.0, kind="gauge", across=across, stamp=2.0, worker=3),
    ]
    merged = merge(cells, [], IDENTITIES)
    assert [each.numbers[0] for each in merged] == expected
    if across == "each":
        assert [each.attributes for each in merged] == [
            (("process.pid", worker),) for worker in (1, 2, 3)
        ]


@pytest.mark.parametrize(
    ("across", "stays"), [("sum", False), ("each", False), ("max", True), ("last", True)]
)
def test_gauges_of_the_dead(across, stays):
    gone = number(5.0, kind="gauge", across=across)
    assert remains(gone) is stays
    assert bool(merge([], [gone], IDENTITIES)) is stays
    assert remains(number(1.0, kind="updown"))


def test_the_newest_exemplar_stays():
    old, new = (1.0, 10, 1, 1), (2.0, 20, 2, 2)
    for order in ((old, new), (new, old), (None, new), (new, None)):
        [merged] = merge([number(1, exemplar=each) for each in order], [], IDENTITIES)
        assert merged.exemplars == [new]


def test_other_attributes_are_another_series():
    merged = merge([number(1, attrs=(("a", 1),)), number(2, attrs=(("a", 2),))], [], IDENTITIES)
    assert [each.numbers[0] for each in merged] == [1, 2]

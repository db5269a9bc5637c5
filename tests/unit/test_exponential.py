"""Exponential histograms on coarser scales, native and classic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack.observe._exponential import Side, classic, native_buckets, sparse, upper_bound


def test_the_vector_of_the_specification():
    found = native_buckets(Side(3, (10, 0, 0, 20, 5, 2)))
    assert found.spans == ((4, 1), (2, 3))
    assert found.deltas == (10, 10, -15, -3)


def test_a_gap_of_one_is_filled():
    found = sparse(0, (1, 0, 2))
    assert found.spans == ((0, 3),)
    assert found.deltas == (1, -1, 2)


def unpacked(buckets):
    """Counts by index, as a receiver reads them."""
    found, index, count = {}, 0, 0
    deltas = iter(buckets.deltas)
    for gap, length in buckets.spans:
        index += gap
        for _ in range(length):
            count += next(deltas)
            if count:
                found[index] = count
            index += 1
    assert next(deltas, None) is None
    return found


COUNTS = st.lists(st.integers(0, 5), max_size=30).map(tuple)
SIDES = st.builds(Side, st.integers(-100, 100), COUNTS)


@given(SIDES)
def test_sparse_buckets_hold_the_same_counts(side):
    expected = {side.offset + 1 + n: count for n, count in enumerate(side.counts) if count}
    assert unpacked(native_buckets(side)) == expected
    assert unpacked(native_buckets(side.trimmed())) == expected


@given(SIDES, st.integers(0, 6))
def test_a_coarser_scale_joins_neighbours(side, steps):
    coarse = side.coarser(steps)
    assert sum(coarse.counts) == sum(side.counts)
    for place, count in enumerate(coarse.counts):
        low = (coarse.offset + place) << steps
        fine = [
            n
            for index, n in enumerate(side.counts, side.offset)
            if low <= index < low + (1 << steps)
        ]
        assert count == sum(fine)


@given(st.integers(-16, 20), st.integers(-4000, 4000))
def test_bounds_are_powers_of_the_base(scale, index):
    bound = upper_bound(index, scale)
    exponent = (index + 1) / 2**scale
    if exponent >= 1024:
        assert bound == math.inf
    elif exponent > -1000:
        assert bound == pytest.approx(2**exponent)
        below = upper_bound(index - 1, scale)
        assert below < bound or exponent < -900


def test_bounds_far_away():
    assert upper_bound(1 << 30, 0) == math.inf
    assert upper_bound(-(1 << 30), 0) == 0.0
    assert upper_bound(1 << 30, -16) == math.inf
    assert upper_bound(1 << 30, 3) == math.inf


@given(st.integers(0, 20), SIDES, SIDES, st.integers(0, 3), st.integers(2, 8))
def test_classic_buckets_rise_and_count_everything(scale, positive, negative, zero, most):
    found = classic(scale, positive, negative, zero, most=most)
    bounds = [bound for bound, _ in found]
    totals = [total for _, total in found]
    assert bounds == sorted(set(bounds))
    assert totals == sorted(totals)
    assert len(found) <= 2 * most + 1
    total = sum(positive.counts) + sum(negative.counts) + zero
    assert (totals[-1] if totals else 0) == total
    for bound, count in found:
        if bound < 0:
            assert count <= sum(negative.counts)


def test_classic_buckets_of_each_sign():
    found = classic(0, Side(0, (1, 2)), Side(1, (4, 8)), 16, most=32)
    assert found == [(-4.0, 8), (-2.0, 12), (0.0, 28), (2.0, 29), (4.0, 31)]
    assert classic(0, Side(0, (1,)), Side(0, ()), 0, most=32) == [(2.0, 1)]
    assert classic(0, Side(1023, (1,)), Side(0, ()), 0, most=32) == []  # up to infinity

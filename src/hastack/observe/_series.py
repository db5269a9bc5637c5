"""Numbers of many processes made one: what a cell holds, and how two of them add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._attribute_memory import Fixed
from ._mapped_format import EXEMPLAR_SIZE, read_exemplar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._mapped_format import Attributes, CellRecord, Descriptor

__all__ = ("Exemplar", "Identities", "Identity", "Series", "merge", "read")

Exemplar = tuple[float, int, int, int]
"""Value, time in nanoseconds since the epoch, trace id, span id."""


class Identity:
    """A metric with one set of attributes; made by `Identities`, and compared by ``is``.

    Attributes:
        descriptor: The metric.
        attributes: Sorted pairs.
        mapping: The same, the same object each time and never changed.
    """

    __slots__ = ("attributes", "descriptor", "mapping")

    def __init__(self, descriptor: Descriptor, attributes: Attributes) -> None:
        self.descriptor = descriptor
        self.attributes = attributes
        self.mapping = Fixed(attributes)


class Identities:
    """One `Identity` for each metric and set of attributes, however often they are met.

    Adding up thousands of cells then takes no hash of their attributes.
    """

    def __init__(self) -> None:
        self._known: dict[object, Identity] = {}

    def of(self, descriptor: Descriptor, attributes: Attributes) -> Identity:
        """The identity; descriptions and units do not distinguish metrics."""
        key = (descriptor.scope, descriptor.name, descriptor.kind, descriptor.bounds, attributes)
        found = self._known.get(key)
        if found is None:
            found = self._known.setdefault(key, Identity(descriptor, attributes))
        return found


@attrs.define
class Series:
    """The numbers of one metric with one set of attributes.

    Attributes:
        identity: Which.
        numbers: Value and time of setting; of a histogram, sum, least, largest (infinities when
            it is empty) and the counts of its buckets.
        exemplars: One, or one for each bucket; ``None`` where there is none.
        worker: Whose it is; 0 for those of several or of dead ones.
    """

    identity: Identity
    numbers: list[float]
    exemplars: Sequence[Exemplar | None]
    worker: int = 0

    @property
    def descriptor(self) -> Descriptor:
        """The metric."""
        return self.identity.descriptor

    @property
    def attributes(self) -> Attributes:
        """Sorted pairs."""
        return self.identity.attributes


def read(
    identity: Identity,
    record: CellRecord,
    data: memoryview,
    words: memoryview[float],
    *,
    exemplars: bool,
    worker: int,
) -> Series:
    """A cell as it is now.

    Args:
        identity: Which it is.
        record: Where it lies.
        data: The file.
        words: The same bytes as numbers of 8 bytes.
        exemplars: Whether the file has any.
        worker: The process it belongs to.
    """
    first = record.numbers_at // 8
    descriptor = record.descriptor
    count = descriptor.exemplars
    seen: Sequence[Exemplar | None] = [None] * count
    if exemplars:
        seen = [
            read_exemplar(data, record.exemplars_at + EXEMPLAR_SIZE * number)
            for number in range(count)
        ]
    if descriptor.kind == "histogram":
        numbers = list(words[first : first + descriptor.numbers])
    else:
        numbers = [words[first], words[first + 1]]  # as a slice it would be an object more
    return Series(identity, numbers, seen, worker)


def merge(alive: Iterable[Series], dead: Iterable[Series], identities: Identities) -> list[Series]:
    """One series for each metric and set of attributes, in order of first sight.

    Counters, up-down counters and histograms of dead workers count for ever, so that no total ever
    decreases. A gauge is what is now: those of dead workers are gone, except that of ``max``,
    ``min`` and ``last`` ones nothing is lost that a live one does not replace.
    """
    found: dict[Identity, Series] = {}
    for series in dead:
        if remains(series):
            _into(found, series, series.identity)
    for series in alive:
        identity = series.identity
        descriptor = identity.descriptor
        if descriptor.across == "each" and descriptor.kind == "gauge":
            whose = (*identity.attributes, ("process.pid", series.worker))
            identity = identities.of(descriptor, whose)
        _into(found, series, identity)
    return list(found.values())


def remains(series: Series) -> bool:
    """Whether a series outlives its worker."""
    descriptor = series.identity.descriptor
    return descriptor.kind != "gauge" or descriptor.across in {"max", "min", "last"}


def _into(found: dict[Identity, Series], series: Series, identity: Identity) -> None:
    known = found.get(identity)
    if known is None:
        found[identity] = Series(identity, list(series.numbers), series.exemplars)
        return
    descriptor, mine, theirs = identity.descriptor, known.numbers, series.numbers
    if descriptor.kind == "histogram":
        _combine_histogram(mine, theirs)
    elif descriptor.kind == "gauge" and descriptor.across in {"max", "min", "last"}:
        _combine_gauge(descriptor.across, mine, theirs)
    else:
        mine[0] += theirs[0]
        if theirs[1] > mine[1]:
            mine[1] = theirs[1]
    if series.exemplars != known.exemplars:
        pairs = zip(known.exemplars, series.exemplars, strict=True)
        known.exemplars = [_newer(one, other) for one, other in pairs]


def _newer(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return other if other[1] > one[1] else one


def _combine_histogram(mine: list[float], theirs: list[float]) -> None:
    least, largest = min(mine[1], theirs[1]), max(mine[2], theirs[2])
    for number, value in enumerate(theirs):
        mine[number] += value
    mine[1], mine[2] = least, largest


def _combine_gauge(across: str, mine: list[float], theirs: list[float]) -> None:
    if across == "last":
        replaces = theirs[1] > mine[1]
    elif across == "max":
        replaces = theirs[0] > mine[0]
    else:
        replaces = theirs[0] < mine[0]
    if replaces:
        mine[:] = theirs

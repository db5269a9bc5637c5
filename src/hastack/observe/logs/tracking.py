"""Schemas that follow a stream, and say so when its records have become something else."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, final

import attrs

from hastack import events
from hastack._core import _validate
from hastack._core._fork import renew_in_child

from ._drift import Drift
from ._sample import Reservoir
from .schema import Applied, Schema, SchemaCache, Schemas, applied, by_format, fingerprint, inferred

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._protocols import BatchLike, FormatLike, Record
    from ._schema_diff import SchemaDiff

__all__ = ("SchemaChanged", "SchemaTracker")


@attrs.frozen(kw_only=True)
class SchemaChanged(events.Event):
    """The records of a format have become something else, and its schema with them.

    Attributes:
        format: Name of the format.
        version: The new version.
        changes: What changed.
    """

    format: str
    version: int
    changes: SchemaDiff


_CHANGED = events.topic(SchemaChanged)


@final
class _Tracked:
    """One format of a tracker."""

    __slots__ = ("applied", "broken", "drift", "due", "early", "schema", "unknown")

    def __init__(self, schema: Schema, drift: Drift | None) -> None:
        self.early: list[Record] | None = None
        self.due = 0
        self.schema = schema
        self.drift = drift
        self.applied = 0
        self.broken: dict[str, int] = {}
        self.unknown = 0


@final
class SchemaTracker:
    """Schemas that follow a stream.

    The first records of a format infer its schema, and until there were as many as a sample has, it is
    looked at anew whenever there are twice as many. Every batch is made what the schema says, and
    counted. When a field is something else in several windows in a row, when new fields
    come, or when fields go missing, the next version of the schema says so. See
    `SchemaChanged`.

    Args:
        schemas: Schemas to begin with; pinned ones stay as they are.
        cache: Where schemas of other formats are looked up first, and kept.
        sample: Records that are looked at, to infer and in each window.
        window: Records of a format after which its schema is judged.
        sustain: Windows in a row that must disagree before a type changes.
        capacity: Formats that are followed; the one unused for longest is forgotten.
        seed: For the samples.

    Raises:
        InvalidArgument: A number is below 1.

    Example:
        >>> from hastack.observe import logs
        >>> tracker = logs.SchemaTracker(window=100, sustain=1)
        >>> _ = tracker.apply_records("app", [{"code": str(n)} for n in range(100)])
        >>> _ = tracker.apply_records("app", [{"code": f"E{n}"} for n in range(100)])
        >>> tracker.schemas["app"].version, tracker.schemas["app"].field("code").type
        (2, 'str')
    """

    def __init__(
        self,
        schemas: Iterable[Schema] | Schemas = (),
        *,
        cache: SchemaCache | None = None,
        sample: int = 100,
        window: int = 1000,
        sustain: int = 2,
        capacity: int = 256,
        seed: int = 0,
    ) -> None:
        self._sample = _validate.integer("sample", sample)
        self._window = _validate.integer("window", window)
        self._sustain = _validate.integer("sustain", sustain)
        self._capacity = _validate.integer("capacity", capacity)
        self._seed = _validate.integer("seed", seed, minimum=0)
        self._cache = cache
        self._lock = threading.Lock()
        self._tracked: OrderedDict[str, _Tracked] = OrderedDict()
        self._forgotten = 0
        for schema in schemas.values() if isinstance(schemas, Schemas) else schemas:
            self._tracked[schema.format] = self._follow(schema)
        renew_in_child(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def _follow(self, schema: Schema) -> _Tracked:
        drift = None
        if not schema.pinned:
            drift = Drift(
                schema.fields,
                numbers=schema.numbers,
                window=self._window,
                sustain=self._sustain,
                sample=self._sample,
                seed=self._seed,
            )
        return _Tracked(schema, drift)

    @property
    def schemas(self) -> Schemas:
        """The present version of each schema."""
        with self._lock:
            return Schemas([tracked.schema for tracked in self._tracked.values()])

    @property
    def forgotten(self) -> int:
        """How many formats made room for others."""
        return self._forgotten

    def counts(self) -> dict[str, Applied]:
        """What happened to all records so far, by format; unknown fields under ``"*"``."""
        with self._lock:
            return {
                name: Applied(
                    each.applied,
                    dict(each.broken),
                    {"*": each.unknown} if each.unknown else {},
                )
                for name, each in self._tracked.items()
            }

    def apply(self, batch: BatchLike) -> dict[str, Applied]:
        """Make the records of a batch what their schemas say, and learn from them."""
        return {
            name: self._apply(form, records) for name, (form, records) in by_format(batch).items()
        }

    def apply_records(self, format: str | FormatLike, records: Sequence[Record]) -> Applied:  # noqa: A002
        """The same for records of one format."""
        return self._apply(format, records)

    def _apply(self, form: str | FormatLike, records: Sequence[Record]) -> Applied:
        name = form if isinstance(form, str) else form.name
        with self._lock:
            tracked = self._tracked.get(name)
            if tracked is not None:
                self._tracked.move_to_end(name)
        if tracked is None:
            tracked = self._first(name, form, records)
        elif tracked.early is not None:
            self._learn(tracked, form, records)
        drift = tracked.drift
        converter = tracked.schema._converter if drift is None else drift.converter
        outcome = converter.run(records)
        done = applied(converter, outcome)
        with self._lock:
            tracked.applied += done.records
            tracked.unknown += len(outcome.strange) + outcome.unkept
            for field, count in done.broken.items():
                tracked.broken[field] = tracked.broken.get(field, 0) + count
            fields = drift.take(converter, outcome, records) if drift is not None else None
            before = tracked.schema
            if fields is not None:
                tracked.schema = attrs.evolve(before, fields=fields, version=before.version + 1)
            after = tracked.schema
        if after is not before:
            self._announce(before, after)
        return done

    def _first(self, name: str, form: str | FormatLike, records: Sequence[Record]) -> _Tracked:
        sample = Reservoir(self._sample, seed=self._seed)
        for record in records:
            sample.add(record)
        key = fingerprint(form)
        known = None if self._cache is None else self._cache.get(key)
        made = self._follow(known or inferred(form, sample.items, key))
        if known is None:
            if self._cache is not None:
                self._cache.put(made.schema)
            if len(records) < self._sample:
                made.early = copy.deepcopy(list(records))
                made.due = 2 * len(records)
        with self._lock:
            tracked = self._tracked.setdefault(name, made)  # another thread may have been first
            while len(self._tracked) > self._capacity:
                self._tracked.popitem(last=False)
                self._forgotten += 1
        return tracked

    def _learn(self, tracked: _Tracked, form: str | FormatLike, records: Sequence[Record]) -> None:
        """Until a whole sample was seen, look again whenever there is twice as much."""
        with self._lock:
            early, before = tracked.early, tracked.schema
            if early is None:
                return  # another thread saw the rest
            early += copy.deepcopy(list(records[: self._sample - len(early)]))
            whole = len(early) >= self._sample
            if len(early) < tracked.due and not whole:
                return
            tracked.due = 2 * len(early)
            tracked.early = None if whole else early
            after = inferred(form, early, before.fingerprint)
            changed = bool(before.diff(after))
            tracked.schema = attrs.evolve(after, version=before.version + changed)
            if changed:
                tracked.drift = self._follow(after).drift
        if changed:
            self._announce(before, tracked.schema)

    def _announce(self, before: Schema, after: Schema) -> None:
        if self._cache is not None:
            self._cache.put(after)
        if _CHANGED.subscribers:
            _CHANGED.publish(
                SchemaChanged(
                    format=after.format, version=after.version, changes=before.diff(after)
                )
            )

"""How bodies get to disk and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._compress import compress, decompress
from ._intake import Intake
from ._shards import Body
from ._spill import SpillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._shards import Lane
    from ._spill import SpillFiles
    from ._wire import Wire

_GIVEN_UP_AT_ONCE = 8  # segments that make way for one body


class Spilling(Intake):
    """The side of an exporter that the disk sees."""

    _spill: SpillFiles | None
    _spill_drops_oldest: bool
    _wires: tuple[Wire, ...]

    def _wake_sender(self, index: int) -> None:
        raise NotImplementedError

    def _adopt(self) -> None:
        if self._spill is None:
            return
        try:
            found = self._spill.adopt(lambda about: self._wire_of(about) is not None)
        except SpillError as error:
            with self._lock:
                self._flow.unspillable(error.reason)
            self._say("disk", "%s: spill directory: %s", self.name, error.detail)
            return
        by_lane: dict[tuple[int, bool], list[Body]] = {}
        for each in found:
            foreign = each.header.shards != self._rules.shards
            bodies = by_lane.setdefault((each.header.lane, foreign), [])
            wire = self._wire_of(each.header.about)
            bodies += [Body(p.units, p.size, first=-1, place=p, wire=wire) for p in each.places]
        with self._lock:
            # Foreign ones last, which puts them before all others in the first lane.
            for (lane, foreign), bodies in sorted(by_lane.items(), key=lambda pair: pair[0][1]):
                self._flow.recover(lane, bodies, foreign=foreign)
        for lane, foreign in by_lane:
            self._wake_sender(0 if foreign else lane)

    def _wire_of(self, about: Mapping[str, Any]) -> Wire | None:
        return next((w for w in self._wires if w.encoder.format.name == about.get("format")), None)

    def _write(self, lane: Lane, body: Body, *, before: bool = False) -> bool:
        """Move a body to disk; whether it is there."""
        spill, data = self._spill, body.data
        if spill is None or data is None:
            return False
        for _ in range(_GIVEN_UP_AT_ONCE):
            try:
                place = spill.append(lane.index, body.units, data, before=before)
            except SpillError as error:
                if error.reason == "spill_full" and self._spill_drops_oldest and self._give_up():
                    continue
                with self._lock:
                    self._flow.unspillable(error.reason)
                self._say("disk", "%s: spill: %s", self.name, error.detail)
                return False
            with self._lock:
                kept = self._flow.spilled(lane, body, place, place.size)
            if not kept:
                spill.settle(place)
            self._make_way()
            return True
        return False

    def _give_up(self) -> bool:
        """Drop what is oldest on disk to make room there."""
        assert self._spill is not None
        segment = self._spill.oldest()
        if segment is None:
            return False
        with self._lock:
            for lane in self._flow.lanes:
                waiting = ([] if lane.current is None else [lane.current]) + list(lane.bodies)
                for body in waiting:
                    if body.place is not None and body.place.segment is segment:
                        self._flow.damaged(lane, body, "spill_full")
        self._spill.give_up(segment)
        self._tell_drops()
        return True

    def _write_all(self) -> None:
        """At the end: everything that is still in memory goes to disk, in its order."""
        with self._lock:
            self._flow.ground()
            shed = [(lane, *self._flow.shed(lane)) for lane in self._flow.lanes]
        for lane, head, tail in shed:
            # After a failure what follows stays in memory, too: nothing may overtake it.
            if all(self._write(lane, body, before=True) for body in head):
                all(self._write(lane, body) for body in tail)

    def _read(self, body: Body) -> bytes | None:
        assert self._spill is not None
        data = self._spill.read(body.place)
        encoding = body.place.segment.about.get("encoding", "identity")
        if data is None or encoding == body.wire.compression:
            return data
        # A process with other settings wrote it.
        plain = decompress(encoding, data)
        return None if plain is None else compress(body.wire.compression, plain)

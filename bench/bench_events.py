"""What an emitter pays for events: without subscribers only the look at an attribute.

Run as ``python bench/bench_events.py``.
"""

from __future__ import annotations

import attrs
from harness import ns_per_call, table

from hastack import events


@attrs.frozen(kw_only=True)
class Probe(events.Event):
    name: str
    cost: int


PROBE = events.topic(Probe)


def ignore(_event: Probe) -> None:
    pass


def bare() -> None:
    pass


def guarded() -> None:
    if PROBE.subscribers:
        PROBE.publish(Probe(name="probe", cost=1))


def main() -> None:
    rows = {"empty call": ns_per_call(bare), "no subscriber": ns_per_call(guarded)}
    end = events.subscribe(ignore, Probe)
    rows["one subscriber"] = ns_per_call(guarded)
    end()
    end = events.subscribe(events.Queue(1024), Probe)
    rows["one full Queue(1024)"] = ns_per_call(guarded)
    end()
    ends = [events.subscribe(ignore, Probe) for _ in range(10)]
    rows["ten subscribers"] = ns_per_call(guarded)
    for each in ends:
        each()
    table("events: one emitting call", rows, base="empty call")


if __name__ == "__main__":
    main()

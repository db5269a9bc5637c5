"""Whether a series of samples is flat."""

from __future__ import annotations

from typing import NamedTuple

# What may be more in the last quarter than in the second: caches fill, allocators keep a page here
# and there, and a sample falls into the middle of things. A leak grows with every request.
ALLOWED = {
    "traced KiB": (768.0, 0.03),
    "peak KiB": (2048.0, 0.06),
    "rss KiB": (6144.0, 0.05),
    "descriptors": (6.0, 0.0),
    "threads": (4.0, 0.0),
    "tasks": (8.0, 0.0),
    "timers": (16.0, 0.0),
    "kernel objects": (1.0, 0.0),
}


class Row(NamedTuple):
    """One line of the table."""

    name: str
    first: float
    early: float
    late: float
    allowed: float
    flat: bool


def judge(samples: list[dict[str, float]]) -> list[Row]:
    """Compare the second quarter of the samples with the last; the first one is for warming up.

    The least of each counts: what is busy for a moment is more for a moment, and a leak never
    gets less again.
    """
    if len(samples) < 8:
        raise ValueError(f"{len(samples)} samples: expected at least 8")
    quarter = len(samples) // 4
    rows = []
    for name in samples[0]:
        series = [each[name] for each in samples]
        early, late = min(series[quarter : 2 * quarter]), min(series[-quarter:])
        absolute, share = ALLOWED[name]
        allowed = absolute + share * early
        rows.append(Row(name, series[0], early, late, allowed, late - early <= allowed))
    return rows

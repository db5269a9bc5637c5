"""Whether a module may be compiled at all: decided by its structure, before an engine sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack._core._errors import ModuleRefused

from ._reader import inspect

if TYPE_CHECKING:
    from ._limits import Limits
    from ._reader import Facts

__all__ = ("admit", "excesses")

_COUNTED = (
    *("functions", "function_bytes", "locals", "total_locals", "types", "globals", "imports"),
    *("exports", "segments", "custom_bytes"),
)


def admit(data: bytes, limits: Limits) -> Facts:
    """The facts about a module that keeps its limits.

    Raises:
        InvalidModule: It is none.
        ModuleRefused: It exceeds limits; each is named.
    """
    if len(data) > limits.module_bytes:
        # Said before anything is read: reading costs time by size.
        raise ModuleRefused([f"module_bytes {len(data):,}, at most {limits.module_bytes:,}"])
    facts = inspect(data)
    reasons = excesses(facts, limits)
    if reasons:
        raise ModuleRefused(reasons)
    return facts


def excesses(facts: Facts, limits: Limits) -> list[str]:
    """Each limit that a module exceeds, for people; empty when none."""
    found: list[str] = []
    for name in _COUNTED:
        _compare(found, name, facts.counts[name], getattr(limits, name))
    _compare(found, "memories", len(facts.memories), limits.memories)
    _compare(found, "memory", sum(least for least, _ in facts.memories), limits.memory)
    _compare(found, "tables", len(facts.tables), limits.tables)
    _compare(found, "table_elements", sum(facts.tables), limits.table_elements)
    shapes = [e.type for e in facts.imports] + [e.type for e in facts.exports]
    if any(shape.startswith("shared ") for shape in shapes):
        found.append("shared memory")
    return found


def _compare(found: list[str], name: str, given: int, limit: int) -> None:
    if given > limit:
        found.append(f"{name} {given:,}, at most {limit:,}")

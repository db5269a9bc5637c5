"""What changed from one version of a schema to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import attrs

from ._vote import support

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._schema_fields import Path, SchemaField

__all__ = ("FieldChange", "SchemaDiff", "compare")

KINDS: Final = ("added", "removed", "type", "nullable", "items")


@final
@attrs.frozen
class FieldChange:
    """One difference.

    Attributes:
        path: Of the field.
        kind: ``"added"``, ``"removed"``, ``"type"``, ``"nullable"`` or ``"items"``.
        before: The type, whether it was nullable, or the type of items; ``None`` if added.
        after: The same afterwards; ``None`` if removed.
        breaking: Whether values of before may not fit in afterwards: what reads the new schema
            cannot read all records of the old one.
    """

    path: Path
    kind: str
    before: str | bool | None
    after: str | bool | None
    breaking: bool

    def __str__(self) -> str:
        name = ".".join(self.path)
        if self.kind == "added":
            return f"+ {name}: {self.after}"
        if self.kind == "removed":
            return f"- {name}: {self.before}"
        if self.kind == "nullable":
            return f"~ {name}: {'nullable' if self.after else 'never null'}"
        what = "items " if self.kind == "items" else ""
        return f"~ {name}: {what}{self.before or 'any'} -> {self.after or 'any'}"


@final
@attrs.frozen
class SchemaDiff:
    """All differences; false when there are none. As text, one line for each.

    Attributes:
        changes: Fields that were added, then those removed, then those changed.
    """

    changes: tuple[FieldChange, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def breaking(self) -> bool:
        """Whether records of before may not fit in afterwards."""
        return any(change.breaking for change in self.changes)

    def to_data(self) -> list[dict[str, object]]:
        """As JSON can say it: one object for each change."""
        return [{**attrs.asdict(change), "path": list(change.path)} for change in self.changes]

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def compare(before: Sequence[SchemaField], after: Sequence[SchemaField]) -> SchemaDiff:
    """The changes that make one the other. Shares and examples are no part of it."""
    old = {field.path: field for field in before}
    new = {field.path: field for field in after}
    found = [
        FieldChange(path, "added", None, field.type, not field.nullable)
        for path, field in new.items()
        if path not in old
    ]
    found += [
        FieldChange(path, "removed", field.type, None, breaking=True)
        for path, field in old.items()
        if path not in new
    ]
    for path, was in old.items():
        if path in new:
            found += _changes(path, was, new[path])
    return SchemaDiff(tuple(found))


def _changes(path: Path, was: SchemaField, now: SchemaField) -> list[FieldChange]:
    found = []
    if was.type != now.type:
        wider = was.type == "null" or bool(support(now.type, {was.type: 1}))
        found.append(FieldChange(path, "type", was.type, now.type, not wider))
    if was.nullable != now.nullable:
        found.append(FieldChange(path, "nullable", was.nullable, now.nullable, was.nullable))
    if was.items != now.items and was.type == now.type:
        found.append(FieldChange(path, "items", was.items, now.items, now.items is not None))
    return found

"""Records as objects: a class for each format, or the user's own."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._protocols import FormatLike, Record

__all__ = ("ObjectMaker", "attribute_names", "class_of")

_CLASSES = 256  # formats whose classes are kept


def attribute_names(fields: Iterable[str]) -> dict[str, str]:
    """A name for each field that Python takes as an attribute's, all different.

    Example:
        >>> attribute_names(["status", "http.status", "class"])
        {'status': 'status', 'http.status': 'http_status', 'class': 'class_'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for field in fields:
        name = re.sub(r"\W", "_", field).lstrip("_") or "field"
        if name[0].isdigit():
            name = f"field_{name}"
        if keyword.iskeyword(name):
            name += "_"
        while name in taken:
            name += "_"
        taken.add(name)
        names[field] = name
    return names


def class_of(name: str, fields: Iterable[str]) -> type[Any]:
    """A frozen attrs class with an attribute for each field, ``None`` by default.

    Args:
        name: Name of a format; ``nginx.combined`` makes ``NginxCombined``.
        fields: Names of fields.
    """
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"\W+", name)) or "Record"
    if title[0].isdigit():
        title = f"Format{title}"
    return attrs.make_class(
        title,
        {attribute: attrs.field(default=None) for attribute in attribute_names(fields).values()},
        frozen=True,
    )


@final
class ObjectMaker:
    """Makes objects of records.

    Args:
        classes: The class for a format's records, by its name: an attrs class, or anything that
            takes fields by keyword. For the others a class is made, of the format's fields and
            those seen in its first record.

    Raises:
        InvalidArgument: A class is not callable.
    """

    def __init__(self, classes: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._given = dict(classes or {})
        for name, given in self._given.items():
            if not callable(given):
                raise InvalidArgument("classes", given, f"a class for {name}")
        self._made: dict[str, tuple[Callable[..., Any], dict[str, str], bool]] = {}

    def make(self, found: FormatLike, record: Record) -> Any:
        """The object of a record. Fields that its class does not have are left out."""
        made = self._made.get(found.name)
        if made is None or (made[2] and not made[1].keys() >= record.keys()):
            if len(self._made) >= _CLASSES:
                self._made.clear()
            made = self._made[found.name] = self._plan(found, record, made)
        kind, names, _ = made
        return kind(**{names[field]: value for field, value in record.items() if field in names})

    def _plan(
        self,
        found: FormatLike,
        record: Record,
        before: tuple[Callable[..., Any], dict[str, str], bool] | None,
    ) -> tuple[Callable[..., Any], dict[str, str], bool]:
        given = self._given.get(found.name)
        if given is not None and attrs.has(given):  # type: ignore[arg-type]  # asked for any
            known = {
                each.name: (each.alias or each.name) for each in attrs.fields(given) if each.init
            }
            names = {field: known[name] for field, name in _both(known, found, record)}
            return given, names, False
        fields = dict.fromkeys([*(before[1] if before else ()), *found.fields, *record])
        if given is not None:
            return given, attribute_names(fields), True
        # An open format (JSON, logfmt) shows more fields as time goes by: then a wider class is made.
        return class_of(found.name, fields), attribute_names(fields), True


def _both(known: Mapping[str, str], found: FormatLike, record: Record) -> Iterable[tuple[str, str]]:
    for field in known:
        yield field, field
    for field, name in attribute_names([*found.fields, *record]).items():
        if name in known and field not in known:
            yield field, name

"""What kind of setting a type annotation declares; loading, showing and the schema agree here."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    cast,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from hastack._core._errors import InvalidArgument

from ._fields import SECTIONS, Quantity
from ._secret import Secret

Hint: TypeAlias = Any
"""A type annotation as it stands in a class: there is no narrower type for these."""


@final
@attrs.frozen
class Shape:
    """One annotation, taken apart.

    Attributes:
        form: ``"class"``, ``"mapping"``, ``"list"``, ``"choice"`` (of classes, by their
            ``kind``), ``"union"`` (of anything else) or ``"leaf"``.
        hint: The annotation without its ``None``; for a class, the class.
        optional: Whether ``None`` is allowed.
        members: Element type of a list, value and key type of a mapping, members of a union.
        container: How a list or mapping is kept.
    """

    form: Literal["class", "mapping", "list", "choice", "union", "leaf"]
    hint: Hint
    optional: bool = False
    members: tuple[Hint, ...] = ()
    container: Any = None


@final
@attrs.frozen
class Field:
    """One field of a settings class.

    Attributes:
        key: Its name in files; the attrs alias.
        name: Its attribute.
        hint: Its annotation.
        attribute: What attrs knows of it.
        file: For a secret, the key that names the file with it.
    """

    key: str
    name: str
    hint: Hint
    attribute: attrs.Attribute[Any]
    file: str | None = None

    @property
    def required(self) -> bool:
        """Whether some source has to give it."""
        return self.attribute.default is attrs.NOTHING


_LISTS: dict[Any, Any] = {list: list, Sequence: tuple, frozenset: frozenset, set: set}
_MAPPINGS: dict[Any, Any] = {dict: dict, Mapping: types.MappingProxyType}


def origin_of(hint: Hint) -> Any:
    """`typing.get_origin`, whose type says too much for annotations that are only `Any`."""
    return get_origin(hint)


def mark_of(hint: Hint) -> Quantity | None:
    """The quantity that an annotation is marked with."""
    if origin_of(hint) is not Annotated:
        return None
    return next((mark for mark in get_args(hint)[1:] if isinstance(mark, Quantity)), None)


def shape_of(hint: Hint) -> Shape:
    """Take an annotation apart."""
    origin = origin_of(hint)
    if origin is Annotated:
        return shape_of(get_args(hint)[0]) if mark_of(hint) is None else Shape("leaf", hint)
    if origin is Union or origin is types.UnionType:
        return _union(hint)
    if attrs.has(cast("type", hint)):
        return Shape("class", hint)
    if (origin or hint) in _MAPPINGS:
        key, value = get_args(hint) or (str, Any)
        return Shape("mapping", hint, members=(value, key), container=_MAPPINGS[origin or hint])
    if (origin or hint) in _LISTS:
        return Shape("list", hint, members=get_args(hint) or (Any,), container=_LISTS[origin or hint])  # fmt: skip
    if origin is tuple and get_args(hint)[1:] == (...,):
        return Shape("list", hint, members=get_args(hint)[:1], container=tuple)
    return Shape("leaf", hint)


def _union(hint: Hint) -> Shape:
    members = tuple(m for m in get_args(hint) if m is not type(None))
    optional = len(members) < len(get_args(hint))
    if len(members) == 1:
        return attrs.evolve(shape_of(members[0]), optional=optional)
    if all(attrs.has(member) and "kind" in attrs.fields_dict(member) for member in members):
        return Shape("choice", hint, optional, members)
    return Shape("union", hint, optional, members)


@cache
def fields_of(cls: type[Any]) -> tuple[Field, ...]:
    """The fields of a settings class that a configuration can give.

    Raises:
        InvalidArgument: An annotation names something that cannot be found.
    """
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidArgument(
            "into", cls, f"a class whose annotations can be resolved at runtime ({error})"
        ) from None
    fields = [
        Field(a.alias or a.name, a.name, hints.get(a.name, Any), a)
        for a in attrs.fields(cls)
        if a.init and not a.metadata.get(SECTIONS)
    ]
    taken = {field.key for field in fields}
    return tuple(
        attrs.evolve(field, file=f"{field.key}_file")
        if shape_of(field.hint).hint is Secret and f"{field.key}_file" not in taken
        else field
        for field in fields
    )


def kinds_of(cls: type) -> tuple[str, ...]:
    """The values that select ``cls`` in a choice: the literals of its field ``kind``."""
    kind = next(field for field in fields_of(cls) if field.key == "kind")
    return tuple(str(value) for value in get_args(kind.hint))

"""Exchange of an object for its successor: maps stay, programs go over, all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._errors import (
    ClosedError,
    HastackError,
    InvalidArgument,
    MapIncompatible,
    Unsupported,
)

from . import _readback

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ._codec import Codec
    from ._links import Link
    from ._maps import Map
    from ._object import Object
    from ._spec import MapSpec, Spec

__all__ = ("prepare", "update")

_POLICIES = ("fail", "recreate", "migrate")


def prepare(
    old: Object,
    spec: Spec,
    values: Mapping[str, Any],
    programs: Iterable[str] | None,
    policy: str,
    signature: bytes | str | Path | None,
) -> Object:
    """Load a successor that shares what it can."""
    from ._open import _admit, _chosen, _load

    if policy not in _POLICIES:
        raise InvalidArgument("on_incompatible", policy, "'fail', 'recreate' or 'migrate'")
    if old.closed:
        raise ClosedError(old.name)
    rules = None
    if old._strict is not None:
        rules = _admit(spec, old._strict, signature, ())
    kept = [name for name in old.programs if name in spec.programs]
    chosen = _chosen(spec, kept if programs is None else programs)
    shared, migrated = _maps(old, spec, policy)
    shared |= {name: old._sections[name].fd for name in _sections(old, spec)}
    constants = {
        name: value
        for name, value in old._values.items()
        if name in spec.globals and spec.globals[name].constant
    }
    sizes = {name: size for name, size in old._sizes.items() if name in spec.maps}
    made = _load(spec, chosen, {**constants, **values}, sizes, shared, inner={}, btf=old._btf)
    try:
        if old._strict is not None:
            _readback.compare(made, rules)
        for name in migrated:
            _migrate(old.maps[name], made.maps[name])
    except BaseException:
        made.close()
        raise
    made._shared, made._strict = frozenset(shared), old._strict
    return made


def _maps(old: Object, spec: Spec, policy: str) -> tuple[dict[str, int], list[str]]:
    """Maps that are shared, and those whose entries are to be copied."""
    shared: dict[str, int] = {}
    migrated = []
    for name, new in spec.maps.items():
        if name not in old.maps or new.type == "struct_ops":
            continue
        found = _differences(old.maps[name], new, old._sizes.get(name))
        if not found:
            shared[name] = old.maps[name].fd
        elif policy == "fail":
            raise MapIncompatible(name, found)
        elif policy == "migrate":
            migrated.append(name)
    return shared, migrated


def _differences(old: Map, new: MapSpec, size: int | None) -> list[str]:
    pairs = {
        "type": (old.type, new.type),
        "layout of keys": (old.spec.key.layout, new.key.layout),
        "layout of values": (old.spec.value.layout, new.value.layout),
        "max_entries": (old.max_entries, size or new.max_entries or old.max_entries),
        "flags": (old.spec.flags, new.flags),
    }
    return [f"{what} is {have}, not {want}" for what, (have, want) in pairs.items() if have != want]


def _sections(old: Object, spec: Spec) -> list[str]:
    """Data sections that are the same, variable by variable."""
    found = []
    for name in old._sections:
        if name.startswith(".rodata") or name not in spec._data:
            continue
        before, after = _section(old.spec, name), _section(spec, name)
        if before == after and len(old.spec.data(name)) == len(spec.data(name)):
            found.append(name)
    return found


def _section(spec: Spec, name: str) -> dict[str, tuple[int, str]]:
    own = (each for each in spec.globals.values() if each.section == name)
    return {each.name: (each.offset, each.codec.layout) for each in own}


def _fitted(value: Any, codec: Codec, where: str) -> Any:
    """A value of an old type for a new one: members by name, what is new stays zero."""
    read = getattr(value, "_asdict", None)
    if read is not None and codec.fields:
        parts = {part.name: part.codec for part in getattr(codec, "parts", ())}
        members: dict[str, Any] = read()
        return {n: _fitted(v, parts[n], f"{where}.{n}") for n, v in members.items() if n in parts}
    return value


def _migrate(old: Map, new: Map) -> None:
    if old.type != new.type or not old.key.size:
        raise MapIncompatible(new.name, [f"entries of {old.type} cannot be copied to {new.type}"])
    for key, value in old.items():
        per_cpu = isinstance(value, list)
        fitted: Any = (
            [_fitted(v, new.spec.value, "value") for v in value]
            if per_cpu
            else (_fitted(value, new.spec.value, "value"))
        )
        try:
            new[_fitted(key, new.key, "key")] = fitted
        except HastackError as error:
            raise MapIncompatible(new.name, [f"entry {key}: {error}"]) from error


def update(old: Object, new: Object) -> None:
    """Let the links of one object go over to another's programs, then make its parts the first's."""
    for each in (old, new):
        if each.closed:
            raise ClosedError(each.name)
    moves = [(link, _successor(link, new)) for link in old.links]
    _carry(old, new)
    done: list[tuple[Link, Any]] = []
    try:
        for link, successor in moves:
            before = link.program
            link.update(successor)
            done.append((link, before))
    except BaseException:
        for link, before in reversed(done):
            link.update(before)
        raise
    old._become(new)


def _successor(link: Link, new: Object) -> Any:
    name = link.program.name
    if link.type == "struct_ops" and name in new.maps:
        return new.maps[name]
    if name not in new.programs:
        known = ", ".join(new.programs) or "nothing"
        raise InvalidArgument(
            "source", new.name, f"a program {name}, which is attached; has {known}"
        )
    if not link.updatable:
        raise Unsupported(
            f"exchanging the program of {link!r}",
            f"the kernel does not exchange programs of links of type {link.type}",
            remedy="Attach it with swappable=True",
        )
    return new.programs[name]


def _carry(old: Object, new: Object) -> None:
    """Copy variables by name where their section is not shared."""
    for name, each in new.spec.globals.items():
        before = old.spec.globals.get(name)
        if before is None or each.constant or before.constant or each.section in new._shared:
            continue
        if each.section not in new._sections or before.section not in old._sections:
            continue
        try:
            new.globals[name] = _fitted(old.globals[name], each.codec, name)
        except InvalidArgument:
            raise MapIncompatible(
                each.section, [f"variable {name} is {before.codec!r}, not {each.codec!r}"]
            ) from None

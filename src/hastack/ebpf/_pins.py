"""Maps with a name in the BPF file system, and what to do when one of another shape is there."""

from __future__ import annotations

import os
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hastack._core._errors import InvalidArgument, KernelRefused, MapIncompatible

from . import _kernel, _libbpf
from ._handle import Handle
from ._maps import _HASHES, Map

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._spec import MapSpec, Spec

__all__ = ("Pins", "differences", "plan", "require_same")

_POLICIES = ("fail", "recreate", "migrate")
# Flags that the kernel or libbpf adds by itself.
_OWN_FLAGS = 1 << 10 | 1 << 7


def differences(spec: MapSpec, info: _kernel.MapInfo, entries: int | None = None) -> list[str]:
    """In what a map in the kernel differs from one that an object declares."""
    found = []
    wanted = {
        "type": spec.type,
        "key_size": spec.key.size,
        "value_size": spec.value.size,
        "max_entries": spec.max_entries if entries is None else entries,
        "flags": spec.flags & ~_OWN_FLAGS,
    }
    for name, want in wanted.items():
        have = getattr(info, name)
        if name == "flags":
            have &= ~_OWN_FLAGS
        if name == "max_entries" and not want:
            continue
        if have != want:
            found.append(f"{name} is {have}, the object wants {want}")
    return found


def require_same(spec: MapSpec, held: Map, entries: int | None = None) -> None:
    """Refuse a map of another shape."""
    with held._handle as fd:
        found = differences(spec, _kernel.MapInfo(fd), entries)
    if found:
        raise MapIncompatible(spec.name, found)


class Pins:
    """Pins of one load: what is reused, and what is pinned once everything has worked.

    Args:
        root: The folder.
        names: Maps that are pinned.
    """

    def __init__(self, root: Path | None, names: list[str]) -> None:
        self._root = root
        self._names = names
        self._held: dict[str, int] = {}
        self._migrate: dict[str, int] = {}
        self._replaced: set[str] = set()

    @property
    def reused(self) -> Mapping[str, int]:
        """Descriptors of pinned maps that fit."""
        return self._held

    def look(self, spec: MapSpec, policy: str, entries: int | None) -> None:
        """See what is pinned under a map's name."""
        assert self._root is not None
        path = self._root / spec.name
        try:
            fd = _kernel.open_pin(str(path))
        except KernelRefused as error:
            if error.errno == ENOENT:
                return
            raise
        found = differences(spec, _kernel.MapInfo(fd), entries)
        if not found:
            self._held[spec.name] = fd
            return
        if policy == "migrate":
            self._migrate[spec.name] = fd
        else:
            os.close(fd)
            if policy == "fail":
                raise MapIncompatible(f"{spec.name} pinned at {path}", found)
        self._replaced.add(spec.name)

    def settle(self, maps: Mapping[str, Map]) -> None:
        """Copy what is to be migrated, then put the new maps under their names."""
        for name, fd in self._migrate.items():
            _copy(os.dup(fd), maps[name])
        for name in self._names:
            if name in self._held:
                continue
            assert self._root is not None
            path = self._root / name
            if name in self._replaced:
                # Renaming replaces in one step: whoever opens the name meets one of the two.
                aside = self._root / f"{name}-new"  # no dots: such names are the kernel's
                aside.unlink(missing_ok=True)
                maps[name].pin(aside)
                try:
                    aside.rename(path)
                except OSError:
                    # Older BPF file systems do not replace by renaming.
                    path.unlink(missing_ok=True)
                    aside.rename(path)
            else:
                maps[name].pin(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (*self._held.values(), *self._migrate.values()):
            os.close(fd)
        self._held, self._migrate = {}, {}


def plan(spec: Spec, root: str | Path | None, policy: str, entries: Mapping[str, int]) -> Pins:
    """What is to be done about pinned maps."""
    if policy not in _POLICIES:
        raise InvalidArgument("on_incompatible", policy, "'fail', 'recreate' or 'migrate'")
    if root is None:
        return Pins(None, [])
    wanted = [name for name, each in spec.maps.items() if each.pinning == "by_name"]
    pins = Pins(Path(root), wanted)
    _libbpf.library()
    try:
        for name in wanted:
            pins.look(spec.maps[name], policy, entries.get(name))
    except BaseException:
        pins.close()
        raise
    return pins


def _copy(fd: int, new: Map) -> None:
    """Entries of an old map into a new one: bytes are kept from the front, what is new is zero."""
    from ._codec import BytesCodec
    from ._spec import MapSpec

    info = _kernel.MapInfo(fd)
    shape = MapSpec(
        new.name,
        info.type,
        BytesCodec("bytes", info.key_size),
        BytesCodec("bytes", info.value_size),
        info.max_entries,
    )
    old = Map(Handle(f"map {new.name} before", fd), shape)
    try:
        if info.type != new.type or new.type not in _HASHES | {"array", "percpu_array"}:
            raise MapIncompatible(new.name, [f"type {info.type} cannot become {new.type}"])
        if info.key_size != new.key.size:
            raise MapIncompatible(new.name, ["keys of another size cannot be migrated"])
        for key, value in old.items():
            if new.type in {"array", "percpu_array"} and int.from_bytes(key, "little") >= (
                new.max_entries
            ):
                break
            new.put(key, _fitted(value, new))
    finally:
        old.close()


def _fitted(value: Any, new: Map) -> Any:
    if isinstance(value, list):
        size = new.spec.value.size
        return [each[:size].ljust(size, b"\0") for each in value]
    return value[: new.value.size].ljust(new.value.size, b"\0")

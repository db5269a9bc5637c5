"""Maps: typed keys and values, batches, iteration, pins."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from errno import E2BIG, EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP
from itertools import islice
from pathlib import Path
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Any, Self

from hastack._core._errors import ClosedError, InvalidArgument, KernelRefused, Unsupported

from . import _kernel, _libbpf
from ._codec import BytesCodec, Codec, index_codec
from ._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from ._spec import MapSpec

__all__ = ("Map",)

_PER_CPU = frozenset(("percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"))
_HASHES = frozenset(("hash", "lru_hash", "percpu_hash", "lru_percpu_hash", "hash_of_maps"))
_ARRAYS = frozenset(
    (
        *("array", "percpu_array", "prog_array", "perf_event_array", "array_of_maps"),
        *("cgroup_array",),
    )
)
_BATCHES = _HASHES | {"array", "percpu_array", "lpm_trie", "array_of_maps"}
_HOLDS = {"prog_array": "program", "array_of_maps": "map", "hash_of_maps": "map"}
_SOCKETS = frozenset(("sockmap", "sockhash", "reuseport_sockarray", "xskmap", "cgroup_array"))
_NO_KEY = frozenset(("queue", "stack", "bloom_filter"))
_HINTS = {
    E2BIG: "the map is full, or the index is beyond its last entry",
    EBUSY: "the kernel is changing that entry; try again",
    EEXIST: "the key is there already",
    ENOENT: "the key is not there",
}
_MODES = {"any": 0, "create": 1, "replace": 2}
_CHUNK = 4096  # entries per call of a batch


class _PerCpu(Codec):
    """One value per possible processor, each on a multiple of 8 bytes."""

    def __init__(self, inner: Codec, cpus: int) -> None:
        self.inner = inner
        self.stride = (inner.size + 7) // 8 * 8
        self.cpus = cpus
        super().__init__(f"{inner.spelling} per CPU", self.stride * cpus)

    def decode(self, data: Any, offset: int = 0) -> list[Any]:
        decode, stride = self.inner.decode, self.stride
        return [decode(data, offset + n * stride) for n in range(self.cpus)]

    def _encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, (list, tuple)) or len(value) != self.cpus:
            raise InvalidArgument(where, value, f"a list of {self.cpus} values, one per CPU")
        parts = (self.inner.encode(v, name=f"{where}[{n}]") for n, v in enumerate(value))
        return b"".join(part.ljust(self.stride, b"\0") for part in parts)


class Map:
    """A map in the kernel.

    It reads like a dict where its type has keys: ``m[key]``, ``key in m``, ``m.get(key)``,
    ``del m[key]``, ``for key, value in m.items()``. Keys and values are what the object's BTF says
    they are, see `hastack.ebpf.Spec.type`; bytes of the right length are taken everywhere.
    Per-CPU maps hold a list with one value per possible processor.

    Iterating survives deletes of others: every key that stays is seen once, and none twice. What is
    added meanwhile may be seen or not.

    Args:
        handle: Its descriptor.
        spec: What the object says about it.

    Example:
        >>> from hastack import ebpf
        >>> m = ebpf.Map.create("hash", key_size=4, value_size=8, max_entries=10)  # doctest: +SKIP
        >>> m[b"abcd"] = bytes(8)  # doctest: +SKIP
        >>> dict(m.items())  # doctest: +SKIP
        {b'abcd': b'...'}
    """

    def __init__(self, handle: Handle, spec: MapSpec) -> None:
        self._handle = handle
        self.spec = spec
        self.name = spec.name
        self.type = spec.type
        info = _kernel.MapInfo(handle.fd)
        self.id = info.id
        self.max_entries: int = info.max_entries
        self.flags = info.flags
        self.key: Codec = spec.key
        self.value: Codec = spec.value
        if self.type in _PER_CPU:
            self.value = _PerCpu(spec.value, _kernel.possible_cpus())
        library = _libbpf.library()
        self._library = library
        self._lib, self._ffi = library.lib, library.ffi
        self._look: Callable[..., int] = library.lib.bpf_map_lookup_elem_flags
        self._holds = self.type in _HOLDS
        self._encode_key = self.key.encoder("key") if self.key.size else self._no_key
        # The value of a look-up, until it is decoded; the handle's lock guards it.
        self._room = bytearray(self.value.size)
        self._view = library.ffi.from_buffer(self._room)

    def __repr__(self) -> str:
        if self._handle.closed:
            return f"<ebpf.Map {self.name}, closed>"
        kinds = f"{self.key.spelling} -> {self.value.spelling}"
        return f"<ebpf.Map {self.name}: {self.type}, {kinds}, {self.max_entries} entries>"

    @classmethod
    def create(
        cls,
        type: str,  # noqa: A002  # what the kernel calls it
        *,
        key_size: int,
        value_size: int,
        max_entries: int,
        flags: int = 0,
        name: str = "map",
    ) -> Map:
        """A map that belongs to no object; keys and values are bytes, indices numbers.

        Args:
            type: Map type, ``"hash"`` for example.
            key_size: Bytes of a key.
            value_size: Bytes of a value.
            max_entries: How many entries it can hold.
            flags: ``BPF_F_*``.
            name: Its name in the kernel, cut after 15 characters.

        Raises:
            KernelRefused: The kernel does not make such a map.
        """
        from ._kinds import MAP_TYPES
        from ._spec import MapSpec

        if type not in MAP_TYPES:
            raise InvalidArgument("type", type, f"one of {', '.join(MAP_TYPES)}")
        _libbpf.library()
        fd = _kernel.create_map(type, key_size, value_size, max_entries, flags=flags, name=name)
        key: Codec = BytesCodec("bytes", key_size)
        if type in _ARRAYS and key_size == 4:
            key = index_codec(sys.byteorder)
        value = BytesCodec("bytes", value_size)
        return cls(Handle(name, fd), MapSpec(name, type, key, value, max_entries, flags))

    @classmethod
    def open(cls, which: int | str | Path) -> Map:
        """A map that is in the kernel already, whoever has made it.

        Keys and values are what the types say that it was made with; without any, bytes.

        Args:
            which: Its id, or its path in a BPF file system.

        Raises:
            KernelRefused: There is no such map, or this process may not open it.
        """
        from . import _btf
        from ._codec import codec_of
        from ._spec import MapSpec

        _libbpf.library()
        if isinstance(which, int):
            fd = _kernel.open_id("map", which)
        else:
            fd = _kernel.open_pin(os.fspath(which))
        handle = Handle(f"map {which}", fd)
        info = _kernel.MapInfo(fd)
        key: Codec = BytesCodec("bytes", info.key_size)
        value: Codec = BytesCodec("bytes", info.value_size)
        if info.btf_id:
            types = _btf.parse(memoryview(_kernel.types_of(info.btf_id)), sys.byteorder)
            made = [codec_of(types, n, sys.byteorder) for n in (info.btf_key, info.btf_value)]
            key = made[0] if made[0].size == key.size else key
            value = made[1] if made[1].size == value.size else value
        if info.type in _ARRAYS and type(key) is BytesCodec:
            key = index_codec(sys.byteorder)
        spec = MapSpec(info.name, info.type, key, value, info.max_entries, info.flags)
        return cls(handle, spec)

    @property
    def fd(self) -> int:
        """Its descriptor, which stays the map's."""
        return self._handle.fd

    @property
    def closed(self) -> bool:
        """Whether it, or the object that it belongs to, was closed."""
        return self._handle.closed

    def close(self) -> None:
        """Give the descriptor back; the map lives on where it is pinned or used."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _failed(self, what: str, hint: str = "") -> KernelRefused:
        errno = self._ffi.errno
        if not hint and self.type in {"queue", "stack"} and errno == E2BIG:
            hint = "the map is full"
        return _libbpf.refused(f"{what} {self.name}", errno, hint=hint or _HINTS.get(errno, ""))

    # One entry at a time.

    def _no_key(self, key: Any) -> bytes:
        raise Unsupported(f"keys of {self.name}", f"a map of type {self.type} has none")

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or ``default``.

        For maps of maps and of programs: the id of what is there.
        """
        raw = self._encode_key(key)
        handle = self._handle
        with handle.lock:
            fd = handle._fd
            if fd < 0:
                raise ClosedError(handle.name)
            if self._look(fd, raw, self._view, 0) < 0:
                if self._ffi.errno == ENOENT:
                    return default
                raise self._failed("look up in")
            return self._decoded(self._room)

    def _decoded(self, data: Any) -> Any:
        """A value; for what holds maps and programs, their ids."""
        if self._holds:
            return unpack_from("=I", data)[0]
        return self.value.decode(data)

    def __getitem__(self, key: Any) -> Any:
        found = self.get(key, _MISSING)
        if found is _MISSING:
            raise KeyError(key)
        return found

    def __contains__(self, key: Any) -> bool:
        if self.type == "bloom_filter":
            return self._filtered(key)
        return self.get(key, _MISSING) is not _MISSING

    def put(self, key: Any, value: Any, *, mode: str = "any") -> None:
        """Set the value of a key.

        Args:
            key: The key.
            value: The value; for maps of maps a `Map`, for program arrays a `Program`.
            mode: ``"any"``, ``"create"`` (the key must be new) or ``"replace"`` (it must be there).

        Raises:
            KernelRefused: ``E2BIG`` when the map is full, ``EEXIST`` or ``ENOENT`` for the modes.
        """
        if mode not in _MODES:
            raise InvalidArgument("mode", mode, "'any', 'create' or 'replace'")
        raw, data = self._encode_key(key), self._held(value)
        handle = self._handle
        with handle.lock:
            done = self._lib.bpf_map_update_elem(handle.fd, raw, data, _MODES[mode])
            if done < 0:
                raise self._failed("write to")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def _held(self, value: Any) -> bytes:
        """Bytes of a value; of what holds a descriptor, that."""
        if self._holds or self.type in _SOCKETS:
            fd = getattr(value, "fd", value)
            if isinstance(fd, int) and self.value.size in {4, 8}:
                return pack("=I" if self.value.size == 4 else "=Q", fd)
        return self.value.encode(value)

    def remove(self, key: Any) -> bool:
        """Delete a key; whether it was there."""
        raw = self._encode_key(key)
        handle = self._handle
        with handle.lock:
            if self._lib.bpf_map_delete_elem(handle.fd, raw) < 0:
                if self._ffi.errno == ENOENT:
                    return False
                raise self._failed("delete from")
        return True

    def __delitem__(self, key: Any) -> None:
        if not self.remove(key):
            raise KeyError(key)

    def pop(self, key: Any = None) -> Any:
        """Take an entry out: of a hash by its key, of a queue the oldest, of a stack the newest.

        Raises:
            KeyError: There is none.
        """
        raw = self._ffi.NULL if self.type in _NO_KEY else self._encode_key(key)
        room = bytearray(self.value.size)
        with self._handle as fd:
            done = self._lib.bpf_map_lookup_and_delete_elem(fd, raw, self._ffi.from_buffer(room))
            if done < 0:
                if self._ffi.errno == ENOENT:
                    raise KeyError(key if self.type not in _NO_KEY else self.name)
                raise self._failed("take out of")
        return self.value.decode(room)

    def push(self, value: Any) -> None:
        """Put a value into a queue, a stack or a bloom filter."""
        with self._handle as fd:
            data = self.value.encode(value)
            if self._lib.bpf_map_update_elem(fd, self._ffi.NULL, data, 0) < 0:
                raise self._failed("push to")

    def peek(self) -> Any:
        """The value that `pop` would take out of a queue or stack.

        Raises:
            KeyError: There is none.
        """
        room = bytearray(self.value.size)
        with self._handle as fd:
            null = self._ffi.NULL
            if self._lib.bpf_map_lookup_elem_flags(fd, null, self._ffi.from_buffer(room), 0) < 0:
                if self._ffi.errno == ENOENT:
                    raise KeyError(self.name)
                raise self._failed("look into")
        return self.value.decode(room)

    def _filtered(self, value: Any) -> bool:
        room = bytearray(self.value.encode(value))
        with self._handle as fd:
            null = self._ffi.NULL
            if self._lib.bpf_map_lookup_elem_flags(fd, null, self._ffi.from_buffer(room), 0) < 0:
                if self._ffi.errno == ENOENT:
                    return False
                raise self._failed("look into")
        return True

    # Many at once.

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All keys with their values."""
        key = self.key
        value = index_codec(sys.byteorder) if self._holds else self.value
        for keys, values, count in self._chunks():
            pairs = key.decode_many(keys, count), value.decode_many(values, count)
            yield from zip(*pairs, strict=True)

    def __iter__(self) -> Iterator[Any]:
        """All keys."""
        for key, _ in self.items():  # noqa: PERF102  # no dict: see values()
            yield key

    def keys(self) -> Iterator[Any]:
        """All keys."""
        return iter(self)

    def values(self) -> Iterator[Any]:
        """All values."""
        for _, value in self.items():  # noqa: PERF102  # no dict: its entries are read from the kernel
            yield value

    def _chunks(self) -> Iterator[tuple[memoryview, memoryview, int]]:
        """Keys and values as the kernel lays them down, some thousands at a time."""
        if not self.key.size:
            raise Unsupported(f"iteration of {self.name}", f"a map of type {self.type} has no keys")
        if self.type in _BATCHES:
            first = self._batch("bpf_map_lookup_batch")
            try:
                yield from first
                return
            except KernelRefused as error:
                if error.errno not in {EOPNOTSUPP, EINVAL}:
                    raise
        yield from self._walk()

    def _batch(self, function: str) -> Iterator[tuple[memoryview, memoryview, int]]:
        # The cursor is a bucket or an index, never a key: a delete cannot lead it astray.
        ffi, call = self._ffi, getattr(self._lib, function)
        room = min(_CHUNK, max(64, self.max_entries))
        cursor, following = bytearray(max(8, self.key.size)), bytearray(max(8, self.key.size))
        started = False
        while True:
            keys, values = bytearray(room * self.key.size), bytearray(room * self.value.size)
            count = ffi.new("__u32 *", room)
            with self._handle as fd:
                begin = ffi.from_buffer(cursor) if started else ffi.NULL
                out = ffi.from_buffer(following)
                holders = ffi.from_buffer(keys), ffi.from_buffer(values)
                done = call(fd, begin, out, *holders, count, ffi.NULL)
                errno = ffi.errno if done < 0 else 0
                if errno and errno not in {ENOENT, ENOSPC}:
                    raise self._failed("read")
            if errno == ENOSPC:  # a bucket with more entries than there was room for
                room *= 2
                continue
            if count[0]:
                yield memoryview(keys), memoryview(values), count[0]
            if errno == ENOENT:
                return
            started = True
            cursor, following = following, cursor

    def _walk(self) -> Iterator[tuple[memoryview, memoryview, int]]:
        """Key after key. When the kernel has lost a key it starts anew: `seen` keeps that apart."""
        ffi, lib = self._ffi, self._lib
        seen: set[bytes] = set()
        current, following = bytearray(self.key.size), bytearray(self.key.size)
        begin = ffi.NULL
        for _ in range(4 * self.max_entries + 64):  # others may add as fast as we read
            with self._handle as fd:
                if lib.bpf_map_get_next_key(fd, begin, ffi.from_buffer(following)) < 0:
                    if ffi.errno == ENOENT:
                        return
                    raise self._failed("walk")
                value = bytearray(self.value.size)
                raw = bytes(following)
                room = ffi.from_buffer(value)
                there = lib.bpf_map_lookup_elem_flags(fd, raw, room, 0) == 0
            if there and raw not in seen:
                seen.add(raw)
                yield memoryview(raw), memoryview(value), 1
            current, following = following, current
            begin = ffi.from_buffer(current)

    def drain(self) -> Iterator[tuple[Any, Any]]:
        """All entries, each taken out of the map in the moment it is read; hashes only."""
        if self.type not in _HASHES - {"hash_of_maps"}:
            raise Unsupported(
                f"draining {self.name}", f"a map of type {self.type} keeps its entries"
            )
        key, value = self.key, self.value
        for keys, values, count in self._batch("bpf_map_lookup_and_delete_batch"):
            pairs = key.decode_many(keys, count), value.decode_many(values, count)
            yield from zip(*pairs, strict=True)

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> int:
        """Set many keys with few calls; how many were set.

        Raises:
            KernelRefused: An entry was refused. Those before it are set.
        """
        pairs = entries.items() if isinstance(entries, (Mapping, Map)) else entries
        rest = iter(pairs)
        written = 0
        while chunk := list(islice(rest, _CHUNK)):
            written += self._write([key for key, _ in chunk], [value for _, value in chunk])
        return written

    def _write(self, keys_of: list[Any], values_of: list[Any]) -> int:
        ffi, size = self._ffi, len(keys_of)
        if not self.key.size:
            self._no_key(keys_of[0])
        keys = self.key.encode_many(keys_of, name="key")
        if self._holds:
            values = b"".join(map(self._held, values_of))
        else:
            values = self.value.encode_many(values_of)
        count = ffi.new("__u32 *", size)
        if self.type in _BATCHES:
            with self._handle as fd:
                if self._lib.bpf_map_update_batch(fd, keys, values, count, ffi.NULL) == 0:
                    return size
                if ffi.errno not in {EOPNOTSUPP, EINVAL}:
                    raise self._failed("write to")
        wide, broad = self.key.size, self.value.size
        for n in range(size):
            raw, data = keys[n * wide : (n + 1) * wide], values[n * broad : (n + 1) * broad]
            with self._handle as fd:
                if self._lib.bpf_map_update_elem(fd, raw, data, 0) < 0:
                    raise self._failed("write to")
        return size

    def discard(self, keys: Iterable[Any]) -> int:
        """Delete many keys; how many of them were there."""
        return sum(self.remove(key) for key in keys)

    def clear(self) -> None:
        """Delete every key of a hash."""
        for _ in self.drain():
            pass

    def __len__(self) -> int:
        """How many entries there are; the kernel keeps no count, so they are counted now."""
        if self.type in _ARRAYS:
            return self.max_entries
        return sum(count for _, _, count in self._chunks())

    def __bool__(self) -> bool:
        return True

    # Names in the BPF file system.

    def pin(self, path: str | Path) -> None:
        """Give the map a name in a BPF file system, under which it outlives this process.

        Raises:
            KernelRefused: There is no BPF file system there, or the name is taken.
        """
        with self._handle as fd:
            _kernel.pin(fd, os.fspath(path))

    @staticmethod
    def unpin(path: str | Path) -> None:
        """Take a name away; the map goes on where it is used."""
        Path(path).unlink(missing_ok=True)


_MISSING = object()

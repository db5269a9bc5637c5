"""From a `Spec` to descriptors, through libbpf; its objects are gone when this returns."""

from __future__ import annotations

import os
import re
from errno import EINVAL, ENOSPC, EPERM
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._errors import InvalidArgument, KernelRefused, Unsupported, VerifierError

from . import _libbpf, _structops, _verdict
from ._kinds import ATTACH_TYPES, PROGRAM_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._spec import ProgramSpec, Spec
    from ._structops import Tables

__all__ = ("Loaded", "Wishes", "load")

# The name stands in what libbpf says: "prog 'x': BPF program load failed: Permission denied".
_PROGRAM = re.compile(r"prog '([^']+)'")
_MAP = re.compile(r"map '([^']+)'")
_LOG_SIZES = (1 << 20, 1 << 24, 1 << 26)
# Types that need BPF trampolines; without them the kernel answers EPERM or ENOTSUPP, with no log.
_TRAMPOLINES = frozenset(("tracing", "lsm", "ext", "struct_ops"))
_ENOTSUPP = 524  # the kernel's own, which has no name in errno.h


@attrs.frozen
class Wishes:
    """What a caller of `load` wants changed.

    Args:
        data: Whole data sections with the values that were set.
        programs: Names of the programs to load.
        entries: ``max_entries`` by map.
        reuse: Descriptors of maps to use instead of new ones.
        inner: Descriptors of maps that show what a map of maps holds, by map.
        types: Attach type by program where it is not the section's.
        btf: A file with the types of the kernel, where it has none itself.
    """

    data: Mapping[str, bytes]
    programs: frozenset[str]
    entries: Mapping[str, int]
    reuse: Mapping[str, int]
    inner: Mapping[str, int]
    types: Mapping[str, str]
    btf: str = ""


@attrs.frozen
class Loaded:
    """Descriptors of what was loaded, owned by whoever gets this, and the final instructions."""

    maps: dict[str, int]
    programs: dict[str, int]
    code: dict[str, bytes]
    tables: Tables | None = None

    def close(self) -> None:
        """Give everything back."""
        for fd in (*self.maps.values(), *self.programs.values()):
            os.close(fd)
        if self.tables is not None:
            self.tables.close()


def load(spec: Spec, wishes: Wishes) -> Loaded:
    """Load an object.

    Raises:
        VerifierError: The verifier rejected a program.
        KernelRefused: The kernel refused something else.
        Unsupported: The kernel cannot run a program of that type.
    """
    _libbpf.messages()
    try:
        return _attempt(spec, wishes, {})
    except _Failed as failure:
        errno, said = failure.errno, failure.said
    culprit = _culprit(spec, wishes, said)
    if culprit is None:
        raise _no_program(spec, errno, said)
    log = ""
    for size in _LOG_SIZES:
        rooms = {culprit: _libbpf.library().ffi.new("char[]", size)}
        try:
            # Once more with a log. It may succeed: memory may have been short the first time.
            return _attempt(spec, wishes, rooms)
        except _Failed as failure:
            errno = failure.errno
        log = _libbpf.library().ffi.string(rooms[culprit]).decode("utf-8", "replace")
        if errno != ENOSPC:
            break
    raise _rejected(spec.programs[culprit], errno, log, said)


class _Failed(Exception):  # never leaves this module
    def __init__(self, errno: int, said: list[str]) -> None:
        super().__init__(errno)
        self.errno = errno
        self.said = said


def _attempt(spec: Spec, wishes: Wishes, logs: Mapping[str, Any]) -> Loaded:
    library = _libbpf.library()
    ffi, lib = library.ffi, library.lib
    name = ffi.new("char[]", spec.name.encode()[:63])
    path = ffi.new("char[]", os.fsencode(wishes.btf))
    options = ffi.new("struct bpf_object_open_opts *")
    options.sz = ffi.sizeof("struct bpf_object_open_opts")
    options.object_name = name
    if wishes.btf:
        options.btf_custom_path = path
    content = _structops.known(spec.content)
    handle = lib.bpf_object__open_mem(content, len(content), options)
    if handle == ffi.NULL:
        raise _Failed(ffi.errno or EINVAL, library.take_messages())
    try:
        _configure(spec, wishes, handle, logs)
        done = lib.bpf_object__load(handle)
        if done < 0:
            raise _Failed(-done, library.take_messages())
        loaded = _collect(spec, wishes, handle)
    except BaseException:
        lib.bpf_object__close(handle)
        raise
    if any(each.type == "struct_ops" for each in spec.maps.values()):
        return attrs.evolve(loaded, tables=_structops.Tables(handle))
    lib.bpf_object__close(handle)
    return loaded


def _check(done: int) -> None:
    if done < 0:
        raise _Failed(-done, _libbpf.messages())


def _configure(spec: Spec, wishes: Wishes, handle: Any, logs: Mapping[str, Any]) -> None:
    library = _libbpf.library()
    ffi, lib = library.ffi, library.lib
    for name, program in spec.programs.items():
        found = lib.bpf_object__find_program_by_name(handle, name.encode())
        if found == ffi.NULL:
            continue
        if name not in wishes.programs:
            _check(lib.bpf_program__set_autoload(found, False))
            continue
        _check(lib.bpf_program__set_autoload(found, True))
        # What an old libbpf does not know by its section's name, we do.
        _check(lib.bpf_program__set_type(found, PROGRAM_TYPES.index(program.type)))
        attach = wishes.types.get(name, program.attach)
        if attach:
            number = ATTACH_TYPES.index(attach)
            _check(lib.bpf_program__set_expected_attach_type(found, number))
        if name in logs:
            _check(lib.bpf_program__set_log_buf(found, logs[name], ffi.sizeof(logs[name])))
            _check(lib.bpf_program__set_log_level(found, 1))
    for section, data in wishes.data.items():
        found = lib.bpf_object__find_map_by_name(handle, section.encode())
        if found != ffi.NULL and section not in wishes.reuse:
            _check(lib.bpf_map__set_initial_value(found, data, len(data)))
    for name in spec.maps:
        found = lib.bpf_object__find_map_by_name(handle, name.encode())
        # Pins are our own work, by a stated policy.
        _check(lib.bpf_map__set_pin_path(found, ffi.NULL))
        if spec.maps[name].type == "struct_ops":
            _check(lib.bpf_map__set_map_flags(found, _structops.FLAG))
        if name in wishes.entries:
            _check(lib.bpf_map__set_max_entries(found, wishes.entries[name]))
        if name in wishes.inner:
            _check(lib.bpf_map__set_inner_map_fd(found, wishes.inner[name]))
    for name, fd in wishes.reuse.items():
        found = lib.bpf_object__find_map_by_name(handle, name.encode())
        if found != ffi.NULL:
            _check(lib.bpf_map__reuse_fd(found, fd))


def _collect(spec: Spec, wishes: Wishes, handle: Any) -> Loaded:
    library = _libbpf.library()
    ffi, lib = library.ffi, library.lib
    loaded = Loaded({}, {}, {})
    try:
        for name in (*spec.maps, *wishes.data):
            found = lib.bpf_object__find_map_by_name(handle, name.encode())
            fd = lib.bpf_map__fd(found) if found != ffi.NULL else -1
            # A map that was reused answers to the name that it has in the kernel.
            fd = wishes.reuse.get(name, fd)
            if fd >= 0:
                loaded.maps[name] = os.dup(fd)
        for name in spec.programs:
            found = lib.bpf_object__find_program_by_name(handle, name.encode())
            fd = lib.bpf_program__fd(found) if found != ffi.NULL else -1
            if name in wishes.programs and fd >= 0:
                loaded.programs[name] = os.dup(fd)
                count = lib.bpf_program__insn_cnt(found)
                code = lib.bpf_program__insns(found)
                loaded.code[name] = bytes(ffi.buffer(code, count * 8))
    except BaseException:
        loaded.close()
        raise
    return loaded


def _culprit(spec: Spec, wishes: Wishes, said: list[str]) -> str | None:
    """The program that libbpf was busy with when it failed."""
    for line in said:
        found = _PROGRAM.search(line)
        if found and found[1] in wishes.programs and "load failed" in line:
            return found[1]
    for line in said:
        found = _PROGRAM.search(line)
        if found and found[1] in wishes.programs:
            return found[1]
    return None


def _no_program(spec: Spec, errno: int, said: list[str]) -> KernelRefused | Unsupported:
    text = "\n".join(said)
    if re.search(r"kernel BTF|vmlinux BTF", text) and not Path("/sys/kernel/btf/vmlinux").exists():
        return Unsupported(
            "the kernel's type information",
            "/sys/kernel/btf/vmlinux is not there",
            remedy="Use a kernel with CONFIG_DEBUG_INFO_BTF=y, or load(btf=FILE)",
        )
    operation, hint = f"load {spec.name}", ""
    found = _MAP.search(text)
    if found:
        operation = f"create map {found[1]} of {spec.name}"
        spelled = spec.maps.get(found[1])
        if spelled is not None and not spelled.max_entries:
            hint = "max_entries is 0: set it with load(max_entries=...)"
    if errno == EPERM and not hint:
        hint = "loading takes CAP_BPF, and CAP_PERFMON or CAP_NET_ADMIN for most programs"
    return KernelRefused(operation, errno, hint=hint, detail=text)


def _rejected(
    program: ProgramSpec, errno: int, log: str, said: list[str]
) -> VerifierError | KernelRefused | Unsupported:
    verdict = _verdict.read(log)
    if not log.strip() or verdict.instruction is None:
        if program.type in _TRAMPOLINES and errno in {EPERM, _ENOTSUPP, EINVAL}:
            return Unsupported(
                f"a program of type {program.type} ({program.name})",
                f"this kernel refuses to load one (error {errno})",
                remedy="A uprobe, a tracepoint or a raw tracepoint may do instead",
            )
        if not log.strip():
            return KernelRefused(f"load program {program.name}", errno, detail="\n".join(said))
    return VerifierError(
        program.name,
        errno,
        reason=verdict.reason,
        instruction=verdict.instruction,
        source=verdict.source,
        hint=verdict.hint,
        log=log,
    )


def with_values(spec: Spec, values: Mapping[str, Any]) -> dict[str, bytes]:
    """All data sections, with these values of global variables written into them."""
    sections = {name: bytearray(spec.data(name)) for name in _mapped(spec)}
    for name, value in values.items():
        each = spec.globals.get(name)
        if each is None or each.section not in sections:
            known = ", ".join(spec.globals) or "nothing"
            raise InvalidArgument(f"globals[{name!r}]", value, f"a variable of the object: {known}")
        raw = each.codec.encode(value, name=name)
        sections[each.section][each.offset : each.offset + each.size] = raw
    return {name: bytes(data) for name, data in sections.items()}


def _mapped(spec: Spec) -> list[str]:
    """Data sections that become maps."""
    exact = {".rodata", ".data", ".bss"}
    custom = (".rodata.", ".data.", ".bss.")
    names = [n for n in spec._data if n in exact or n.startswith(custom)]
    return [name for name in names if spec._data[name]]

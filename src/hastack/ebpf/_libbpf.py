"""libbpf and the bpf() system call, through cffi's ABI mode; nothing is loaded until it is needed.

Loading an object (maps, CO-RE, relocations) is libbpf's work. Links and queries go through the
system call: libbpf 1.1 of Debian 12 knows neither tcx nor uprobe_multi, the kernel does.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from errno import EFAULT, EINTR, ENOSYS, EPERM
from pathlib import Path
from typing import Any, Final

from hastack._core._errors import KernelRefused, Unsupported
from hastack._core._extras import require

__all__ = ("Library", "bpf", "library", "messages", "syscall")

_CDEF = """
typedef uint32_t __u32; typedef uint64_t __u64;
struct bpf_object; struct bpf_program; struct bpf_map; struct bpf_link;
struct bpf_object_open_opts {
    size_t sz; const char *object_name; bool relaxed_maps; const char *pin_root_path;
    __u32 :32; const char *kconfig; const char *btf_custom_path;
    char *kernel_log_buf; size_t kernel_log_size; __u32 kernel_log_level;
};
struct bpf_map_batch_opts { size_t sz; __u64 elem_flags; __u64 flags; };
typedef int (*libbpf_print_fn_t)(int level, const char *format, void *arguments);
const char *libbpf_version_string(void);
void *libbpf_set_print(libbpf_print_fn_t fn);
struct bpf_object *bpf_object__open_mem(const void *data, size_t size,
                                        const struct bpf_object_open_opts *opts);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct bpf_program *bpf_object__find_program_by_name(const struct bpf_object *obj,
                                                     const char *name);
struct bpf_map *bpf_object__find_map_by_name(const struct bpf_object *obj, const char *name);
struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
int bpf_map__type(const struct bpf_map *map);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
int bpf_map__set_max_entries(struct bpf_map *map, __u32 max_entries);
int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size);
int bpf_map__set_inner_map_fd(struct bpf_map *map, int fd);
int bpf_map__set_map_flags(struct bpf_map *map, __u32 flags);
struct bpf_link *bpf_map__attach_struct_ops(const struct bpf_map *map);
int bpf_link__fd(const struct bpf_link *link);
void bpf_link__disconnect(struct bpf_link *link);
int bpf_link__destroy(struct bpf_link *link);
int bpf_map__set_autocreate(struct bpf_map *map, bool autocreate);
int bpf_program__fd(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);
int bpf_program__set_type(struct bpf_program *prog, int type);
int bpf_program__set_expected_attach_type(struct bpf_program *prog, int type);
int bpf_program__set_attach_target(struct bpf_program *prog, int fd, const char *name);
int bpf_program__set_log_buf(struct bpf_program *prog, char *buf, size_t size);
int bpf_program__set_log_level(struct bpf_program *prog, __u32 level);
const void *bpf_program__insns(const struct bpf_program *prog);
size_t bpf_program__insn_cnt(const struct bpf_program *prog);
int bpf_map_lookup_elem_flags(int fd, const void *key, void *value, __u64 flags);
int bpf_map_lookup_and_delete_elem(int fd, const void *key, void *value);
int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next);
int bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values, __u32 *count,
                         const struct bpf_map_batch_opts *opts);
int bpf_map_lookup_and_delete_batch(int fd, void *in, void *out, void *keys, void *values,
                                    __u32 *count, const struct bpf_map_batch_opts *opts);
int bpf_map_update_batch(int fd, const void *keys, const void *values, __u32 *count,
                         const struct bpf_map_batch_opts *opts);
int bpf_map_delete_batch(int fd, const void *keys, __u32 *count,
                         const struct bpf_map_batch_opts *opts);
"""
_LIBC = """
long syscall(long number, long a, void *b, long c, long d, long e, long f);
int vsnprintf(char *str, size_t size, const char *format, void *arguments);
"""
_NEWER: Final = {"fsopen": 430, "fsconfig": 431, "fsmount": 432}  # the same on all machines
# Numbers of system calls that Python has no function for, by machine.
_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {"bpf": 321, "perf_event_open": 298, "capset": 126, "prctl": 157, **_NEWER},
    "aarch64": {"bpf": 280, "perf_event_open": 241, "capset": 91, "prctl": 167, **_NEWER},
}
_INSTALL = "apt-get install libbpf1, or name the file in HASTACK_LIBBPF"
_KEPT = 64  # messages of libbpf kept per thread, the newest


class Library:
    """libbpf, once it is loaded.

    Args:
        path: Where it was found.
        ffi: cffi's interface, with the declarations.
        lib: The functions of libbpf.
        libc: ``syscall`` and ``vsnprintf``.
    """

    def __init__(self, path: str, ffi: Any, lib: Any, libc: Any) -> None:
        self.path = path
        self.ffi = ffi
        self.lib = lib
        self.libc = libc
        self.version: str = ffi.string(lib.libbpf_version_string()).decode()
        self._local = threading.local()
        # A va_list is handed over by address on both machines in _NUMBERS; elsewhere the texts
        # that libbpf prints are dropped.
        self._print = ffi.NULL
        if platform.machine() in _NUMBERS:
            self._print = ffi.callback("libbpf_print_fn_t", self._said, error=0)
        lib.libbpf_set_print(self._print)

    def _said(self, level: int, form: Any, arguments: Any) -> int:
        # 0 is a warning; information and debugging are not worth their formatting.
        if level == 0:
            room = self.ffi.new("char[]", 1024)
            self.libc.vsnprintf(room, 1024, form, arguments)
            kept = self._kept()
            kept.append(self.ffi.string(room).decode("utf-8", "replace").strip())
            del kept[:-_KEPT]
        return 0

    def _kept(self) -> list[str]:
        if not hasattr(self._local, "kept"):
            self._local.kept = []
        kept: list[str] = self._local.kept
        return kept

    def take_messages(self) -> list[str]:
        """What libbpf has said in this thread since the last time."""
        kept = self._kept()
        taken = kept[:]
        kept.clear()
        return taken


_lock = threading.Lock()
_found: Library | None = None
_ffi: Any = None
_libc: Any = None


def candidates() -> list[str]:
    """Where libbpf is looked for, in order."""
    bundled = sorted(Path(__file__).parent.glob("_bundled/libbpf.so*"))
    named = os.environ.get("HASTACK_LIBBPF", "")
    return [*map(str, bundled), *([named] if named else []), "libbpf.so.1"]


def _interface() -> tuple[Any, Any]:
    """Cffi with our declarations, and the C library; once per process."""
    global _ffi, _libc
    if not sys.platform.startswith("linux"):
        raise Unsupported("eBPF", f"{sys.platform} is not Linux")
    if _ffi is None:
        ffi = require("cffi", extra="ebpf").FFI()
        ffi.cdef(_CDEF + _LIBC)
        _libc = ffi.dlopen(None)
        _ffi = ffi
    return _ffi, _libc


def _ready() -> tuple[Any, Any]:
    """`_interface` without a lock once it is there: a fork may have copied the lock taken."""
    if _ffi is not None:
        return _ffi, _libc
    with _lock:
        return _interface()


def library() -> Library:
    """libbpf, loaded with the first call.

    Raises:
        MissingDependency: cffi is not installed.
        Unsupported: This is not Linux, or libbpf is not there.
    """
    global _found
    if _found is not None:
        return _found
    with _lock:
        ffi, libc = _interface()
        problems = []
        for path in candidates():
            try:
                lib = ffi.dlopen(path, ffi.RTLD_NOW | ffi.RTLD_LOCAL)
                _found = Library(path, ffi, lib, libc)
            except (OSError, AttributeError) as error:
                problems.append(f"{path}: {error}")
            else:
                return _found
        raise Unsupported("libbpf", "; ".join(problems), remedy=_INSTALL)


def syscall(name: str, a: int, b: Any = None, c: int = 0, d: int = 0, e: int = 0) -> int:
    """A system call that Python has no function for; the answer, or minus the error number."""
    ffi, libc = _ready()
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        raise Unsupported("eBPF", f"no number of {name}() is known for {platform.machine()}")
    pointer = ffi.NULL if b is None else b if isinstance(b, ffi.CData) else ffi.from_buffer(b)
    done: int = libc.syscall(number, a, pointer, c, d, e, 0)
    return -int(ffi.errno) if done < 0 else done


def bpf(command: int, attributes: bytes | bytearray) -> int:
    """Run a command of the BPF system call: its answer, or minus the error number.

    Args:
        command: ``BPF_*``.
        attributes: Its ``union bpf_attr``; the kernel writes into a bytearray.
    """
    while True:
        done = syscall("bpf", command, attributes, len(attributes))
        if done != -EINTR:
            return done


def address(data: Any) -> int:
    """Where the bytes of a buffer lie; it must outlive the use of the address."""
    ffi, _ = _ready()
    return int(ffi.cast("uintptr_t", ffi.from_buffer(data)))


def pointer(value: int) -> Any:
    """A number where a system call takes a pointer."""
    ffi, _ = _ready()
    return ffi.cast("void *", value)


def refused(operation: str, errno: int, *, hint: str = "") -> KernelRefused:
    """The error for a refusal, with what libbpf said and a hint where the cause is known."""
    said = _found.take_messages() if _found else []
    return KernelRefused(
        operation, errno, hint=hint or _HINTS.get(errno, ""), detail="\n".join(said)
    )


_HINTS = {
    EPERM: "the process may lack CAP_BPF, CAP_PERFMON or CAP_NET_ADMIN, or the kernel forbids it",
    ENOSYS: "the kernel was built without it",
    EFAULT: "an address was not readable",
}


def messages() -> list[str]:
    """What libbpf has said in this thread since the last time."""
    return _found.take_messages() if _found else []

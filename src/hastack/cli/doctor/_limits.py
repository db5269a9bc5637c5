"""How much this process may use: descriptors, locked memory, processors, memory, threads."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._cgroups import cpu_quota, memory_limit, process_limit
from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._looking import Looking

__all__ = ("limits",)

_FEW_FILES: Final = 4096  # a connection each; below it, a busy service meets the limit
_LITTLE_LOCKED: Final = 64 << 20  # bytes; maps of kernels before 5.11 are charged to it
_FEW_THREADS: Final = 256


def limits(looking: Looking) -> Iterator[Finding]:
    """One line for each limit."""
    yield _files()
    yield _locked()
    yield _cpus()
    yield _memory()
    yield _threads()


def _limit(number: int) -> tuple[int | None, int | None]:
    soft, hard = resource.getrlimit(number)
    infinite = resource.RLIM_INFINITY
    return (None if soft == infinite else soft), (None if hard == infinite else hard)


def _files() -> Finding:
    soft, hard = _limit(resource.RLIMIT_NOFILE)
    try:
        in_use: int | None = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # names only
    except OSError:
        in_use = None
    few = soft is not None and soft < _FEW_FILES
    more = _FEW_FILES * 16 if hard is None else min(hard, _FEW_FILES * 16)
    can = few and soft is not None and more > soft
    return Finding(
        section="limits",
        name="open files",
        says=f"{_count(soft)}, at most {_count(hard)}",
        fix=f"ulimit -n {more}" if can else None,
        notes=(f"{soft} open files are few: each connection is one",) if few else (),
        facts={"soft": soft, "hard": hard, "in_use": in_use},
    )


def _count(number: int | None) -> str:
    return "no limit" if number is None else f"{number:,}"


def _locked() -> Finding:
    soft, hard = _limit(resource.RLIMIT_MEMLOCK)
    # Since 5.11 the kernel charges maps to the cgroup instead.
    charged = _release() < (5, 11)
    little = charged and soft is not None and soft < _LITTLE_LOCKED
    return Finding(
        section="limits",
        name="locked memory",
        says=f"{_size(soft)}"
        + ("" if charged else "; this kernel does not charge eBPF maps to it"),
        fix="ulimit -l unlimited" if little else None,
        notes=("eBPF maps are charged to it on this kernel",) if little else (),
        facts={"soft": soft, "hard": hard},
    )


def _release() -> tuple[int, int]:
    major, minor, *_ = (*os.uname().release.partition("-")[0].split("."), "0", "0")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


def _size(count: int | None) -> str:
    if count is None:
        return "no limit"
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1024:.3g} KiB"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _cpus() -> Finding:
    affinity = getattr(os, "sched_getaffinity", None)
    machine, usable = os.cpu_count(), len(affinity(0)) if affinity else None
    quota = cpu_quota(_read)
    share = "no quota" if quota is None else f"its cgroup allows {quota:g}"
    fewer = quota is not None and machine is not None and quota < machine
    note = f"what counts processors sees {machine}: set worker and thread counts yourself"
    return Finding(
        section="limits",
        name="processors",
        says=f"{usable or machine} of {machine}, {share}",
        notes=(note,) if fewer else (),
        facts={"machine": machine, "usable": usable, "quota": quota},
    )


def _memory() -> Finding:
    limit = memory_limit(_read)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share = "no limit" if limit is None else f"its cgroup allows {_size(limit)}"
    return Finding(
        section="limits",
        name="memory",
        says=f"{_size(total)}, {share}",
        facts={"machine": total, "limit": limit},
    )


def _threads() -> Finding:
    soft, _ = _limit(resource.RLIMIT_NPROC)
    grouped = process_limit(_read)
    least = min((each for each in (soft, grouped) if each is not None), default=None)
    few = least is not None and least < _FEW_THREADS
    return Finding(
        section="limits",
        name="threads",
        says=f"{_count(least)} of this user and cgroup",
        fix=f"ulimit -u {_FEW_THREADS * 16}" if few and least == soft else None,
        notes=(f"{least} threads and processes are few",) if few else (),
        facts={"user": soft, "cgroup": grouped},
    )

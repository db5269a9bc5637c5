"""What the kernel can do, found out by trying."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

from hastack.errors import MissingDependency

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hastack.ebpf.features import Feature

    from ._looking import Looking

__all__ = ("kernel",)

_RIGHTS: Final = "sudo setcap cap_bpf,cap_perfmon,cap_net_admin+ep $(readlink -f {python})"
# What to type where a feature is absent; the others take another kernel, or nothing needs them.
_FIXES: Final = {
    "libbpf": "sudo apt-get install libbpf1",
    "bpffs": "sudo mount -t bpf bpf /sys/fs/bpf",
    "cgroup2": "sudo mount -t cgroup2 none /sys/fs/cgroup",
    "bpf": _RIGHTS,
    "uprobe": _RIGHTS,
    "tracefs": _RIGHTS,
}


def kernel(looking: Looking) -> Iterator[Finding]:
    """Sockets first, which every service uses, then what eBPF needs."""
    for name, what, work in _SOCKETS:
        if looking.wants("kernel", name):
            yield _tried(name, what, work)
    yield from _ebpf(looking)


def _tried(name: str, what: str, work: Callable[[], str]) -> Finding:
    try:
        said = work()
    except (OSError, AttributeError) as error:
        said = f"{what}: {error}"
        return Finding(section="kernel", name=name, status="missing", says=said)
    return Finding(section="kernel", name=name, says=said)


def _reuse_port() -> str:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
    return "two sockets listen at one port: processes may share the page for Prometheus"


def _version_6() -> str:
    with socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
    return "a socket listens on ::1"


def _unix() -> str:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("")  # Linux chooses a name without a file
        return "a socket listens without a file"


_SOCKETS: Final = (
    ("SO_REUSEPORT", "sharing a port between processes", _reuse_port),
    ("IPv6", "listening on ::1", _version_6),
    ("unix sockets", "listening on one", _unix),
)


def _ebpf(looking: Looking) -> Iterator[Finding]:
    from hastack._core._extras import require
    from hastack.ebpf import features

    try:
        require("cffi", extra="ebpf")
    except MissingDependency as missing:
        yield Finding(
            section="kernel",
            name="ebpf",
            status="missing",
            says=f"not looked at: {missing.package} is not installed",
            fix=f"pip install 'hastack[{missing.extra}]'",
        )
        return
    found = features.survey()
    if not next(each for each in found if each.name == "bpf"):
        # Everything else fails for the same reason, which is said once.
        found = tuple(each for each in found if each.name in _FIXES)
    for each in found:
        if ":" not in each.name or each.name.startswith("link:"):
            yield _feature(each)
    for kind, what in (("map", "map types"), ("program", "program types")):
        of_kind = [each for each in found if each.name.startswith(f"{kind}:")]
        if of_kind:
            yield _types(what, of_kind)


def _feature(each: Feature) -> Finding:
    name = each.name.replace("link:", "").replace("_", " ")
    if each:
        return Finding(section="kernel", name=name, says=each.reason)
    fix = _FIXES.get(each.name)
    return Finding(
        section="kernel",
        name=name,
        status="missing",
        says=each.reason.partition("; mount")[0],  # which is in `fix`
        fix=fix.format(python=sys.executable) if fix else None,
    )


def _types(what: str, found: list[Feature]) -> Finding:
    there = [each.name.partition(":")[2] for each in found if each]
    absent = {each.name.partition(":")[2]: each.reason for each in found if not each}
    without = f"; not {', '.join(sorted(absent))}" if absent else ""
    return Finding(
        section="kernel",
        name=what,
        status="ok" if there else "missing",
        says=f"{len(there)} of {len(found)}{without}",
        facts={"there": there, "absent": absent},
    )

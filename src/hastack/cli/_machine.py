"""What this machine and this installation offer hastack; read, never changed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# The extras when the package metadata cannot say: a checkout on PYTHONPATH.
_EXTRAS: dict[str, tuple[str, ...]] = {
    "cli": ("click>=8.1", "rich>=13.7"),
    "web": ("starlette>=0.37", "uvicorn>=0.30"),
    "grpc": ("grpcio>=1.60", "grpcio-health-checking>=1.60"),
    "anyio": ("anyio>=4.4",),
    "etcd": ("grpcio>=1.80", "protobuf>=5.27"),
    "otel": (
        "opentelemetry-api>=1.30",
        "opentelemetry-sdk>=1.30",
        "protobuf>=5.27",
        "urllib3>=2.2",
        "cramjam>=2.9",
    ),
    "ebpf": ("cffi>=1.16", "cryptography>=43"),
    "logs": ("parsy>=2.1", "msgspec>=0.19", "backports.zstd>=1.0; python_version < '3.14'"),
    "arrow": ("pyarrow>=17",),
    "wasm": ("wasmtime>=36", "cryptography>=43"),
    "httpx": ("httpx>=0.27",),
    "aiohttp": ("aiohttp>=3.12",),
}


def survey() -> dict[str, Any]:
    """Everything that ``hastack doctor`` prints."""
    return {
        "versions": versions(),
        "platform": _platform(),
        "extras": extras(),
        "acceleration": acceleration(),
        "clocks": clocks(),
        "event_loop": event_loop(),
        "limits": {"open_files": open_files()},
        "cpus": cpus(),
        "ebpf": ebpf(),
    }


def ebpf() -> dict[str, str]:
    """What eBPF needs and what this kernel has of it, found out by trying."""
    from hastack.ebpf import features

    parts: dict[str, str] = {}
    for each in features.survey():
        kind, _, name = each.name.partition(":")
        if kind in {"map", "program"}:
            if each:
                parts[f"{kind}_types"] = f"{parts.get(f'{kind}_types', '')} {name}".strip()
        else:
            parts[each.name] = f"{'yes' if each else 'no'}: {each.reason}"
    return parts


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """hastack, Python and what the base install brings."""
    return {
        "hastack": installed("hastack"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "attrs": installed("attrs"),
        "cattrs": installed("cattrs"),
    }


def _platform() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "executable": sys.executable,
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
    }


def extras() -> dict[str, dict[str, Any]]:
    """Each extra: what is installed of it, and the exact line that brings the rest."""
    return {name: _extra(name, needs) for name, needs in sorted(_declared().items())}


def _extra(name: str, needs: tuple[str, ...]) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    wanting: list[str] = []
    for need in needs:
        package, minimum = _need(need)
        version = packages[package] = installed(package)
        if version is None:
            wanting.append(package)
        elif _numbers(version) < _numbers(minimum):
            wanting.append(f"{package} {version} (needs {need})")
    line = f"pip install 'hastack[{name}]'" if wanting else None
    return {"packages": packages, "missing": wanting, "install": line}


def _declared() -> dict[str, tuple[str, ...]]:
    try:
        lines = importlib.metadata.requires("hastack") or []
    except importlib.metadata.PackageNotFoundError:
        return _EXTRAS
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        need, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if extra and not need.strip().startswith("hastack"):
            found[extra[1]] = (*found.get(extra[1], ()), need.strip())
    return found or _EXTRAS


def _need(need: str) -> tuple[str, str]:
    package = re.match(r"[\w.-]+", need)
    minimum = re.search(r">=\s*([\d.]+)", need)
    return package[0] if package else need, minimum[1] if minimum else "0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def acceleration() -> dict[str, str]:
    """Which of the modules that can be compiled are; empty when the build has no such modules."""
    try:
        from hastack._core._accel import report

        return report()
    except ImportError:
        return {}


def clocks() -> dict[str, dict[str, Any]]:
    """The clocks behind deadlines and timestamps."""
    found = {}
    for name, info, read in (
        ("monotonic", time.get_clock_info("monotonic"), time.monotonic),
        ("time", time.get_clock_info("time"), time.time),
    ):
        found[name] = {
            "implementation": info.implementation,
            "resolution": info.resolution,
            "smallest_step": _smallest_step(read),
            "adjustable": info.adjustable,
        }
    return found


def _smallest_step(read: Callable[[], float], samples: int = 200) -> float:
    """Seconds between two readings that differ, at best."""
    best = float("inf")
    for _ in range(samples):
        before = after = read()
        limit = 10_000  # a clock that stands still must not hold the doctor
        while after == before and limit:
            after = read()
            limit -= 1
        if after > before:
            best = min(best, after - before)
    return best if best < float("inf") else 0.0


def event_loop() -> dict[str, Any]:
    """What ``asyncio.run`` would run on, and faster loops that are installed."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
        selector = type(getattr(loop, "_selector", None)).__name__
    finally:
        loop.close()
    found: dict[str, Any] = {"loop": kind, "selector": selector, "uvloop": installed("uvloop")}
    if sys.version_info < (3, 14):  # policies are deprecated from there on
        policy = type(asyncio.get_event_loop_policy())
        found["policy"] = f"{policy.__module__}.{policy.__qualname__}"
    return found


def open_files() -> dict[str, int | None]:
    """How many file descriptors this process may open, and how many it has."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    try:
        in_use: int | None = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # names only
    except OSError:
        in_use = None
    return {
        "soft": None if soft == infinite else soft,
        "hard": None if hard == infinite else hard,
        "in_use": in_use,
    }


def cpus() -> dict[str, float | int | None]:
    """Processors of the machine, of this process, and the share that its cgroup may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "machine": os.cpu_count(),
        "usable": len(affinity(0)) if affinity else None,
        "quota": cpu_quota(_read),
    }


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def cpu_quota(read: Callable[[str], str | None]) -> float | None:
    """Processors that the cgroup allows, ``None`` without a limit.

    The tightest limit on the way from the process's group up to the root counts. Source:
    ``cpu.max`` in the kernel's cgroup-v2 documentation, ``cpu.cfs_quota_us`` in version 1.

    Args:
        read: Content of a file, or ``None`` when there is none.
    """
    limits = []
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        version2 = not controllers
        if not version2 and "cpu" not in controllers.split(","):
            continue
        top = "/sys/fs/cgroup" if version2 else "/sys/fs/cgroup/cpu"
        for folder in _upwards(group):
            limit = _limit_v2(read, top + folder) if version2 else _limit_v1(read, top + folder)
            if limit is not None:
                limits.append(limit)
    return min(limits, default=None)


def _upwards(group: str) -> list[str]:
    parts = [part for part in group.split("/") if part and part != ".."]
    return ["".join(f"/{part}" for part in parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit_v2(read: Callable[[str], str | None], folder: str) -> float | None:
    words = (read(f"{folder}/cpu.max") or "").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def _limit_v1(read: Callable[[str], str | None], folder: str) -> float | None:
    quota = read(f"{folder}/cpu.cfs_quota_us")
    period = read(f"{folder}/cpu.cfs_period_us")
    if quota is None or period is None or int(quota) <= 0:
        return None
    return int(quota) / int(period)

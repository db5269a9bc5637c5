"""What is known to break or to slow services: forks with threads, packages and switches that clash."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from hastack._core._extras import grpc_has_fork_hooks
from hastack.cli._installed import installed

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._looking import Looking

__all__ = ("hazards",)

_DEBUG: Final = (
    "PYTHONASYNCIODEBUG",
    "PYTHONDEVMODE",
    "PYTHONTRACEMALLOC",
    "PYTHONPROFILEIMPORTTIME",
)
# Threads of a fresh interpreter: what .pth files and sitecustomize have started.
_COUNT: Final = "import os; print(len(os.listdir('/proc/self/task')))"


def hazards(looking: Looking) -> Iterator[Finding]:
    """One line for each hazard that could be there."""
    yield _fork()
    yield from _threads()
    if installed("grpcio"):
        yield _grpc()
    if installed("protobuf"):
        yield _protobuf()
    if installed("opentelemetry-proto") or installed("xds-protos"):
        yield _overwritten()
    yield _switches()


def _fork() -> Finding:
    method = multiprocessing.get_context().get_start_method()
    return Finding(
        section="hazards",
        name="fork",
        says=f"multiprocessing uses {method} unless told otherwise; hastack's own threads and "
        "locks survive a fork",
        facts={"start_method": method},
    )


def _threads() -> Iterator[Finding]:
    command = [sys.executable, "-c", _COUNT]
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter, with our own program
            command, capture_output=True, text=True, timeout=30.0, check=True
        )
        count = int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return  # no /proc here
    note = "a .pth file or sitecustomize starts threads, which no forked child has"
    yield Finding(
        section="hazards",
        name="threads",
        says=f"a fresh interpreter has {count} thread{'s' if count != 1 else ''}",
        notes=(note,) if count > 1 else (),
        facts={"threads": count},
    )


def _grpc() -> Finding:
    asked = "GRPC_ENABLE_FORK_SUPPORT" in os.environ and grpc_has_fork_hooks()
    note = "gRPC's hooks around forks crash children of a process with busy connections"
    return Finding(
        section="hazards",
        name="grpc and fork",
        says="gRPC's own hooks are on" if asked else "hastack imports gRPC without its hooks",
        fix="unset GRPC_ENABLE_FORK_SUPPORT" if asked else None,
        notes=(note,) if asked else (),
    )


def _protobuf() -> Finding:
    code = "from google.protobuf.internal import api_implementation as a; print(a.Type())"
    done = subprocess.run(  # noqa: S603  # this interpreter, with our own program
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30.0, check=False
    )
    kind = done.stdout.strip() or "unknown"
    chosen = os.environ.get("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION")
    again = "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    fix = again if chosen else "pip install --force-reinstall protobuf"
    slow = kind == "python"
    return Finding(
        section="hazards",
        name="protobuf",
        says=f"messages are read and written by {kind}",
        fix=fix if slow else None,
        notes=("the one in Python takes ten times as long and more",) if slow else (),
        facts={"implementation": kind},
    )


def _overwritten() -> Finding:
    if installed("xds-protos") and installed("opentelemetry-proto"):
        return Finding(
            section="hazards",
            name="messages",
            status="broken",
            says="xds-protos overwrites files of opentelemetry-proto",
            fix="pip uninstall -y xds-protos && pip install --force-reinstall opentelemetry-proto",
        )
    return Finding(section="hazards", name="messages", says="none overwrites another")


def _switches() -> Finding:
    on = [name for name in _DEBUG if os.environ.get(name, "0") not in {"", "0"}]
    if on:
        says, notes = f"on: {', '.join(on)}", ("these are for development: everything is slower",)
        fix = f"unset {' '.join(on)}"
        return Finding(section="hazards", name="debugging", says=says, notes=notes, fix=fix)
    return Finding(section="hazards", name="debugging", says="no switch of the interpreter is on")

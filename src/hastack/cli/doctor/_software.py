"""The interpreter, hastack itself, and which of its parts run compiled."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from hastack.cli._installed import installed

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._finding import Status
    from ._looking import Looking

__all__ = ("acceleration", "event_loop", "python")

_COMPILE: Final = "HASTACK_COMPILE=1 pip install --force-reinstall --no-binary hastack hastack"


def python(looking: Looking) -> Iterator[Finding]:
    """Versions, platform, event loop."""
    versions = {name: installed(name) for name in ("hastack", "attrs", "cattrs")}
    yield Finding(
        section="python",
        name="hastack",
        says=", ".join(
            f"{name} {version or '(from its sources)'}" for name, version in versions.items()
        ),
        facts=versions,
    )
    gil = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
    kind = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding(
        section="python",
        name="interpreter",
        says=f"{kind}{'' if gil else ' without the GIL'}, {sys.executable}",
        facts={
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "gil": gil,
        },
    )
    libc = " ".join(platform.libc_ver()).strip() or None
    facts = {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": libc,
    }
    yield Finding(
        section="python",
        name="platform",
        says=f"{facts['system']} {facts['release']} on {facts['machine']}, {libc or 'another libc'}",
        facts=facts,
    )
    found = event_loop()
    uvloop = f", uvloop {found['uvloop']} is installed" if found["uvloop"] else ""
    yield Finding(
        section="python",
        name="event loop",
        says=f"{found['loop'].rpartition('.')[2].strip('_')} with {found['selector']}{uvloop}",
        facts=found,
    )


def event_loop() -> dict[str, Any]:
    """What ``asyncio.run`` would run on, and faster loops that are installed."""
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


def acceleration(looking: Looking) -> Iterator[Finding]:
    """What could run compiled, and what does."""
    yield _decisions()
    yield _rings()


def _decisions() -> Finding:
    from hastack._core._accel import report

    modules = report()
    compiled = [name for name, kind in modules.items() if kind == "compiled"]
    said = f"{len(compiled)} of {len(modules)} modules that decide are compiled"
    if compiled:
        return Finding(section="acceleration", name="mypyc", says=said, facts={"modules": modules})
    if os.environ.get("HASTACK_PURE", "0") != "0":
        # Whether there are any cannot be told: what was asked for is done.
        said, fix = f"{said}: HASTACK_PURE is set", "unset HASTACK_PURE"
    else:
        said, fix = f"{said}: the pure Python runs, which does the same more slowly", _COMPILE
    return Finding(
        section="acceleration",
        name="mypyc",
        status="missing",
        says=said,
        fix=fix,
        facts={"modules": modules},
    )


def _rings() -> Finding:
    """The C extension that takes records out of ring buffers."""
    from hastack.ebpf._ringbuf import order_of_memory
    from hastack.errors import Unsupported

    name = "hastack.ebpf._native"
    status: Status = "missing"
    try:
        native = order_of_memory()
        says = f"{name} is not built: records are taken in Python"
    except Unsupported as error:
        native, says = None, str(error)
    if native is not None:
        says = f"{name} is there: records are taken in C"
        return Finding(section="acceleration", name="ring buffers", says=says)
    if find_spec(name) is not None:
        if find_spec("_cffi_backend") is None:
            says, fix = f"{name} is built, and takes cffi", "pip install 'hastack[ebpf]'"
            return Finding(
                section="acceleration", name="ring buffers", status="missing", says=says, fix=fix
            )
        try:
            import_module(name)
        except ImportError as error:
            status, says = "broken", f"{name} is built and cannot be imported: {error}"
    return Finding(
        section="acceleration", name="ring buffers", status=status, says=says, fix=_COMPILE
    )

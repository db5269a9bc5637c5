"""eBPF: load, inspect, attach and update prebuilt CO-RE objects."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import features as features
    from ._build import build as build
    from ._build import minimal_btf as minimal_btf
    from ._links import Link as Link
    from ._maps import Map as Map
    from ._object import Object as Object
    from ._object import Program as Program
    from ._object import Run as Run
    from ._open import load as load
    from ._open import open as open  # noqa: A004
    from ._perfbuf import PerfBuffer as PerfBuffer
    from ._policy import Policy as Policy
    from ._privileges import drop_privileges as drop_privileges
    from ._ringbuf import Account as Account
    from ._ringbuf import Batch as Batch
    from ._ringbuf import RingBuffer as RingBuffer
    from ._signing import Strict as Strict
    from ._signing import sign as sign
    from ._spec import Call as Call
    from ._spec import Global as Global
    from ._spec import MapSpec as MapSpec
    from ._spec import ProgramSpec as ProgramSpec
    from ._spec import Spec as Spec
    from ._structops import Table as Table
    from ._userring import UserRingBuffer as UserRingBuffer
    from ._waiting import Reader as Reader

_HOMES = {
    "Account": ("_ringbuf", "Account"),
    "Batch": ("_ringbuf", "Batch"),
    "Call": ("_spec", "Call"),
    "Global": ("_spec", "Global"),
    "Link": ("_links", "Link"),
    "Map": ("_maps", "Map"),
    "MapSpec": ("_spec", "MapSpec"),
    "Object": ("_object", "Object"),
    "PerfBuffer": ("_perfbuf", "PerfBuffer"),
    "Reader": ("_waiting", "Reader"),
    "Policy": ("_policy", "Policy"),
    "Program": ("_object", "Program"),
    "ProgramSpec": ("_spec", "ProgramSpec"),
    "RingBuffer": ("_ringbuf", "RingBuffer"),
    "Run": ("_object", "Run"),
    "Spec": ("_spec", "Spec"),
    "Strict": ("_signing", "Strict"),
    "Table": ("_structops", "Table"),
    "UserRingBuffer": ("_userring", "UserRingBuffer"),
    "build": ("_build", "build"),
    "drop_privileges": ("_privileges", "drop_privileges"),
    "load": ("_open", "load"),
    "minimal_btf": ("_build", "minimal_btf"),
    "open": ("_open", "open"),
    "sign": ("_signing", "sign"),
}

__all__ = (
    "Account",
    "Batch",
    "Call",
    "Global",
    "Link",
    "Map",
    "MapSpec",
    "Object",
    "PerfBuffer",
    "Policy",
    "Program",
    "ProgramSpec",
    "Reader",
    "RingBuffer",
    "Run",
    "Spec",
    "Strict",
    "Table",
    "UserRingBuffer",
    "build",
    "drop_privileges",
    "load",
    "minimal_btf",
    "open",
    "sign",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        home, there = _HOMES[name]
        return getattr(importlib.import_module(f"{__name__}.{home}"), there)
    if name == "features":
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

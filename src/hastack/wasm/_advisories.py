"""Versions of the engine that are known to let guests out, or to mix them up.

Source: the advisories of https://github.com/bytecodealliance/wasmtime/security/advisories, as far
as they are about what this package uses; nothing here has to do with components, for example.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ("known_bad",)

_Version = tuple[int, int, int]

# Advisory, machine (empty for all), what happens, versions: from, and below.
_ADVISORIES: Final[tuple[tuple[str, str, str, tuple[tuple[_Version, _Version], ...]], ...]] = (
    (
        "GHSA-6wgr-89rj-399p",
        "",
        "an instance of the pool may see what the one before left",
        (((0, 0, 0), (36, 0, 7)), ((37, 0, 0), (42, 0, 2)), ((43, 0, 0), (43, 0, 1))),
    ),
    (
        "GHSA-jhxm-h53p-jm7w",
        "aarch64",
        "guests reach memory of the host",
        (((0, 0, 0), (36, 0, 7)), ((37, 0, 0), (42, 0, 2)), ((43, 0, 0), (43, 0, 1))),
    ),
    (
        "GHSA-897f-g5gm-fmxm",
        "",
        "large functions are compiled into something else",
        (((36, 0, 0), (36, 0, 19)),),
    ),
    (
        "GHSA-mghf-wjfp-p5xm",
        "aarch64",
        "large jump tables lead elsewhere",
        (((36, 0, 0), (36, 0, 19)),),
    ),
)


def known_bad(version: str, machine: str) -> str:
    """Why a version of the engine is not used; empty when nothing is known.

    Args:
        version: ``"50.0.1"``.
        machine: ``"x86_64"`` or ``"aarch64"``.
    """
    parts = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if parts is None:
        return ""
    number = (int(parts[1]), int(parts[2]), int(parts[3]))
    for advisory, where, what, ranges in _ADVISORIES:
        if where and where != machine:
            continue
        if any(least <= number < below for least, below in ranges):
            return f"wasmtime {version}: {what} ({advisory})"
    return ""

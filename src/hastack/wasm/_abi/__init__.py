"""What a module expects of its host, told by what it exports and imports.

An ABI is one module with one function, `adapt`; the host knows nothing else about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _extism, _http, _plain, _wasi
from ._adapted import Adapted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hastack.wasm._host import HostFunction
    from hastack.wasm._reader import Facts

__all__ = ("Adapted", "adapt")


def adapt(
    facts: Facts,
    grants: Mapping[str, Mapping[str, HostFunction]],
    functions: Mapping[str, str],
    *,
    wasi: _wasi.Wasi | None = None,
    config: Mapping[str, str] | None = None,
) -> Adapted:
    """Grants and signatures for a module, its ABI's and the user's; the user's win."""
    around = _wasi.adapt(facts, wasi)
    adapted = _extism.adapt(facts, config) or _http.adapt(facts) or around or _plain.adapt(facts)
    if around is not None and adapted is not around:
        adapted = adapted.beside(around)
    return adapted.with_users(grants, functions)

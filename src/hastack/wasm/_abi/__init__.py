"""What a module expects of its host, told by what it exports and imports.

An ABI is one module with one function, `adapt`; the host knows nothing else about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _http, _plain
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
) -> Adapted:
    """Grants and signatures for a module, its ABI's and the user's; the user's win."""
    adapted = _http.adapt(facts) or _plain.adapt(facts)
    return adapted.with_users(grants, functions)

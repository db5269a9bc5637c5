"""Policies for HTTP requests: ``on_http_request(method*, path*, len) -> 0 deny | 1 allow``.

``method`` ends with a zero; ``len`` is the length of ``path``, behind which a zero stands as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._adapted import Adapted

if TYPE_CHECKING:
    from hastack.wasm._reader import Facts

__all__ = ("adapt",)

NAME = "on_http_request"


def adapt(facts: Facts) -> Adapted | None:
    """A module that exports the function with that type, or ``None``."""
    export = facts.export(NAME)
    if export is None or export.type != "(i32, i32, i32) -> i32":
        return None
    return Adapted(name="http", functions={NAME: "(cbytes, bytes) -> i32"})

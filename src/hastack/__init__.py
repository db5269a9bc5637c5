"""hastack: guards, context, config, lifecycle and health for services that must stay up.

Submodules load on first use: ``import hastack`` itself brings in no third-party package and no
asyncio.

Example:
    >>> import hastack
    >>> api = hastack.ratelimit.TokenBucket("100/s", burst=200)
    >>> bool(api.try_acquire())
    True
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        config,
        context,
        contrib,
        discovery,
        ebpf,
        errors,
        events,
        health,
        lifecycle,
        ratelimit,
        testing,
        typing,
    )

    __version__: str

__all__ = (
    "__version__",
    "config",
    "context",
    "contrib",
    "discovery",
    "ebpf",
    "errors",
    "events",
    "health",
    "lifecycle",
    "ratelimit",
    "testing",
    "typing",
)

if os.environ.get("HASTACK_PURE", "0") != "0":
    from ._core._accel import force_pure as _force_pure

    _force_pure()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hastack")
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

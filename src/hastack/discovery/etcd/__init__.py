"""A client of etcd v3. grpc and protobuf come in with the first connection."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import Client as Client
    from ._client import connect as connect
    from ._options import TLS as TLS

_HOMES = {
    "_client": ("Client", "connect"),
    "_options": ("TLS",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ("Client", "TLS", "connect")  # noqa: RUF022  # plainly sorted, as everywhere


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

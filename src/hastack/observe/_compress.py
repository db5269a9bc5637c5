"""Body compression by the names of ``Content-Encoding``."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable


def _cramjam() -> Any:
    return require("cramjam", extra="otel")


_COMPRESS: dict[str, Callable[[Any], Any]] = {
    "identity": bytes,
    # Level 1: on telemetry it is several times faster than the default and hardly larger.
    "gzip": lambda data: _cramjam().gzip.compress(data, level=1),
    "deflate": lambda data: _cramjam().zlib.compress(data, level=1),
    "snappy": lambda data: _cramjam().snappy.compress_raw(data),
    "zstd": lambda data: _cramjam().zstd.compress(data, level=1),
}
_DECOMPRESS: dict[str, Callable[[Any], Any]] = {
    "identity": bytes,
    "gzip": lambda data: zlib.decompress(data, 47),
    "deflate": lambda data: zlib.decompress(data),
    "snappy": lambda data: _cramjam().snappy.decompress_raw(data),
    "zstd": lambda data: _cramjam().zstd.decompress(data),
}


def compress(name: str, data: bytes | bytearray | memoryview) -> bytes:
    """``data`` as it travels under the ``Content-Encoding`` of that name."""
    return bytes(_COMPRESS[name](data))


def decompress(name: str, data: bytes) -> bytes | None:
    """What `compress` was given; ``None`` when it is not that."""
    try:
        return bytes(_DECOMPRESS[name](data))
    except Exception:  # each library has an error of its own
        return None

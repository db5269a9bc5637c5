"""Compressed bytes to plain ones, a bounded piece at a time.

What a file is, its first bytes say: names lie, and rotation renames. Several compressed streams in
a row are one, as gzip, xz and zstd themselves hold it (RFC 1952, section 2.2).
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Protocol, final

from hastack._core._errors import MissingDependency
from hastack._core._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("MAGIC", "Damaged", "Inflater", "kind_of")

MAGIC = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_ZSTD_SKIPPABLE = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))


class Damaged(ValueError):
    """An archive ends too early, or holds what cannot be unpacked."""


def kind_of(head: bytes) -> str | None:
    """The kind of an archive by its first six bytes; ``None`` for anything else."""
    for kind, magic in MAGIC.items():
        if head.startswith(magic):
            # "BZh" is also how a line of text may begin; a level and the block's magic follow it.
            if kind == "bzip2" and not (head[3:4].isdigit() and head[4:5] in {b"1", b"\x17", b""}):
                continue
            return kind
    return "zstd" if head.startswith(_ZSTD_SKIPPABLE) else None


class _Stream(Protocol):
    """The interface that bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@final
class _Gzip:
    """zlib's object behind that interface."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._more

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # A full piece may leave output inside zlib although it has eaten all of its input.
        self._more = len(out) == max_length or bool(self._inner.unconsumed_tail)
        return out


def _zstd() -> tuple[Callable[[], Any], type[Exception]]:
    try:
        module = require("compression.zstd", extra="logs")  # in Python since 3.14
    except MissingDependency:
        module = require("backports.zstd", extra="logs")
    return module.ZstdDecompressor, module.ZstdError


def _maker(kind: str) -> tuple[Callable[[], _Stream], type[Exception]]:
    if kind == "gzip":
        return _Gzip, zlib.error
    if kind == "bzip2":
        return bz2.BZ2Decompressor, OSError
    if kind == "xz":
        return lzma.LZMADecompressor, lzma.LZMAError
    return _zstd()


@final
class Inflater:
    """Unpacks one file.

    Args:
        kind: One of `MAGIC`.
        piece: Most bytes handed out at once, whatever an archive promises: a bomb of a few
            kilobytes may hold gigabytes.

    Raises:
        MissingDependency: zstd on a Python before 3.14 without ``hastack[logs]``.
    """

    def __init__(self, kind: str, piece: int) -> None:
        self._make, self._error = _maker(kind)
        self._kind = kind
        self._piece = piece
        self._stream: _Stream | None = None
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack ``data``, which follows what was fed before.

        Raises:
            Damaged: It is no valid archive from some point on. What came before has been handed
                out.
        """
        while data or (self._stream is not None and not self._stream.needs_input):
            if self._stream is None:
                if self._kind in {"gzip", "xz"} and self._started:
                    data = data.lstrip(b"\0")  # padding, as tape tools leave it
                if not data:
                    return
                self._stream = self._make()
                self._started = True
            try:
                out = self._stream.decompress(data, self._piece)
            except (self._error, EOFError, ValueError) as error:
                raise Damaged(f"damaged {self._kind} archive: {error}") from None
            data = b""
            if self._stream.eof:
                data = self._stream.unused_data
                self._stream = None
            if out:
                yield out

    def finish(self) -> None:
        """There is no more.

        Raises:
            Damaged: There should have been.
        """
        if self._stream is not None or not self._started:
            raise Damaged(f"truncated {self._kind} archive")

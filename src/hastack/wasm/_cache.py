"""Compiled code on disk, believed only when this host wrote it.

Compiled code is machine code: whoever can change a file of it runs what he likes. 58 of 60 files with
one flipped bit were accepted by the engine. Each entry is authenticated with a key that never leaves
the directory; what does not match is thrown away and compiled anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import attrs

from hastack._core._errors import InvalidArgument
from hastack._core._extras import require
from hastack._core._whole_file import replace

from ._engine import engine
from ._reader import Export, Facts, Import
from ._sizes import size

if TYPE_CHECKING:
    from ._limits import Limits

__all__ = ("Cache", "Kept")

_LENGTH: Final = struct.Struct("<I")
_DOMAIN: Final = b"hastack wasm cache 2\0"
_NONCE: Final = 32
_HEAD: Final = _NONCE + 16  # and the tag
_ZERO: Final = bytes(12)
"""GCM's own nonce: a key is used once."""


class Kept(NamedTuple):
    """An artefact in the bytes of its file, from ``start`` on; copying it would cost more than that."""

    raw: bytes
    start: int


@final
class Cache:
    """A directory of compiled modules; any number of processes of one user may share it.

    Args:
        path: The directory; it is made when it is missing, for this user alone.
        most: Bytes to keep, or ``"256MiB"``; the oldest entries go first.

    Raises:
        InvalidArgument: Somebody else may write there.

    Example:
        >>> import tempfile
        >>> from hastack import wasm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = wasm.Cache(f"{folder}/compiled")
        ...     for _ in range(2):
        ...         wasm.load(wasm.wat("(module)"), trust=wasm.Unsigned(), cache=cache).close()
        ...     cache.hits
        1
    """

    def __init__(self, path: str | os.PathLike[str], *, most: int | str = 256 << 20) -> None:
        self._path = Path(path)
        self._most = size("most", most)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_ours(self._path)
        self._key = self._open_key()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def find(self, digest: str, limits: Limits) -> tuple[Facts, Kept] | None:
        """Facts and artefact of a module, or ``None``."""
        place = self._place(digest, limits)
        try:
            raw = place.read_bytes()
        except OSError:
            self.misses += 1
            return None
        found = self._opened(raw, place.name)
        if found is None:
            self.misses += 1
            place.unlink(missing_ok=True)
            return None
        self.hits += 1
        return found

    def keep(self, digest: str, limits: Limits, facts: Facts, artefact: bytes) -> None:
        """Put an artefact there; a disk that is full is no error."""
        place = self._place(digest, limits)
        head = json.dumps(attrs.asdict(facts), separators=(",", ":")).encode()
        body = _LENGTH.pack(len(head)) + head + artefact
        try:
            nonce = secrets.token_bytes(_NONCE)
            tag = self._cipher(place.name, nonce).encrypt(_ZERO, b"", body)
            replace(place, nonce + tag + body, mode=0o600)
            self._evict()
        except OSError:
            place.unlink(missing_ok=True)

    def _opened(self, raw: bytes, name: str) -> tuple[Facts, Kept] | None:
        if len(raw) < _HEAD + 4:
            return None
        body = memoryview(raw)[_HEAD:]
        invalid = require("cryptography.exceptions", extra="wasm").InvalidTag
        try:
            self._cipher(name, raw[:_NONCE]).decrypt(_ZERO, raw[_NONCE:_HEAD], body)
        except invalid:
            return None
        (length,) = _LENGTH.unpack(body[:4])
        facts = _facts(json.loads(bytes(body[4 : 4 + length])))
        return facts, Kept(raw, _HEAD + 4 + length)

    def _cipher(self, name: str, nonce: bytes) -> Any:
        """Authenticates one entry, with a key that only this entry has.

        AES-GCM of nothing, with the entry beside it: ten times as fast as a hash, and as good where
        each key is for one message.
        """
        made = hmac.new(self._key, _DOMAIN + nonce + name.encode(), hashlib.sha256)
        aead = require("cryptography.hazmat.primitives.ciphers.aead", extra="wasm")
        return aead.AESGCM(made.digest())

    def _place(self, digest: str, limits: Limits) -> Path:
        """The file for a module under this engine: another version has another name."""
        host = engine(limits.stack)
        library = Path(host.lib.path).stat()
        parts = (library.st_size, library.st_mtime_ns, host.stack, host.pooled, platform.machine())
        kind = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return self._path / f"{digest}.{kind}.cwasm"

    def _open_key(self) -> bytes:
        place = self._path / "key"
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            self._require_ours(place)
            key = place.read_bytes()
            if len(key) == 32:
                return key
            place.unlink()  # its writer died half-way: nothing can have been kept under it
            return self._open_key()
        with os.fdopen(descriptor, "wb") as file:
            key = secrets.token_bytes(32)
            file.write(key)
        return key

    def _require_ours(self, path: Path) -> None:
        found = path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidArgument("path", str(path), "a place that only this user may write to")

    def _evict(self) -> None:
        with self._lock:
            entries = sorted(
                ((e.stat().st_mtime_ns, e.stat().st_size, e) for e in self._path.glob("*.cwasm")),
                reverse=True,
            )
            kept = 0
            for _, length, entry in entries:
                kept += length
                if kept > self._most:
                    entry.unlink(missing_ok=True)


def _facts(fields: dict[str, Any]) -> Facts:
    fields["imports"] = tuple(Import(**one) for one in fields["imports"])
    fields["exports"] = tuple(Export(**one) for one in fields["exports"])
    fields["memories"] = tuple((least, most) for least, most in fields["memories"])
    for name in ("tables", "customs"):
        fields[name] = tuple(fields[name])
    return Facts(**fields)

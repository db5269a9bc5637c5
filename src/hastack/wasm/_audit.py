"""Writes down what happens to plugins, so that nobody can change it unnoticed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, final

from hastack import events
from hastack._core import _validate
from hastack._core._errors import AuditBroken, InvalidArgument
from hastack._core._fork import renew_in_child

from ._chain import Chain, Checked, check
from ._events import PluginEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._keys import PrivateKey, PublicKey

__all__ = ("Audit", "audit_verify")


@final
class Audit:
    """An audit log of every plugin of this process, one JSON object a line.

    Each line holds the hash of the one before; a line signed with ``key`` comes every so many
    lines and at the end. What was cut off behind a signed line cannot be told from what was never
    written: keep the last head elsewhere if that matters.

    One process writes to a file at a time.

    Args:
        path: The file; it is continued when it is there, after it was checked.
        key: What signs it.
        every: Lines between two signatures.

    Raises:
        AuditBroken: The file was changed.
        InvalidArgument: Another process writes to it.

    Example:
        >>> import tempfile
        >>> from hastack import wasm
        >>> key = wasm.PrivateKey.generate()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with wasm.Audit(f"{folder}/audit.jsonl", key=key):
        ...         wasm.load(wasm.wat("(module)"), trust=wasm.Unsigned()).close()
        ...     checked = wasm.audit_verify(f"{folder}/audit.jsonl", [key.public])
        >>> checked.lines, checked.signed
        (3, 3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: PrivateKey | None = None,
        every: int = 100,
    ) -> None:
        self._every = _validate.integer("every", every)
        self._key = key
        self._lock = threading.Lock()
        self._file = Path(path).open("ab+", buffering=0)  # noqa: SIM115  # closed by close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InvalidArgument("path", str(path), "a file that no process writes to") from None
        try:
            self._chain = self._continued()
        except BaseException:
            self._file.close()
            raise
        self._unsigned = 0
        self._owner = os.getpid()
        self.errors = 0
        """Events that could not be written: the disk was full."""
        self._unsubscribe = events.subscribe(self._write, PluginEvent)
        renew_in_child(self)

    def close(self) -> None:
        """Sign what was written, and end."""
        self._unsubscribe()
        with self._lock:
            if not self._file.closed:
                if self._key is not None and self._unsigned and self._owner == os.getpid():
                    self._put(self._chain.sign(self._key))
                self._file.close()

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _continued(self) -> Chain:
        """After the last whole line; half a line of a process that was killed is cut off."""
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        checked = check(data[:whole].splitlines(keepends=True))
        if whole < len(data):
            self._file.truncate(whole)
        return Chain(checked.lines, checked.head)

    def _write(self, event: PluginEvent) -> None:
        fields = {
            "at": round(time.time(), 3),
            "event": type(event).__name__,
            "plugin": event.plugin,
            "digest": event.digest,
            "detail": event.detail,
        }
        with self._lock:
            if self._file.closed or self._owner != os.getpid():
                return  # a forked child has a log of its own, or none
            before = Chain(self._chain.number, self._chain.head)
            try:
                self._put(self._chain.line(fields))
            except OSError:
                self._chain = before
                self.errors += 1
                return
            self._unsigned += 1
            if self._key is not None and self._unsigned >= self._every:
                self._put(self._chain.sign(self._key))
                self._unsigned = 0

    def _put(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError("the disk is full")
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # no half line may stay
            raise

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


def audit_verify(path: str | os.PathLike[str], keys: Iterable[PublicKey] | None = None) -> Checked:
    """Check an audit log from its first line to its last.

    Args:
        path: The file.
        keys: Whose signed heads count; without any, only the chain is checked.

    Raises:
        AuditBroken: Names the first line that is not what was written.
    """
    with Path(path).open("rb") as lines:
        found = check(lines, None if keys is None else {key.id: key for key in keys})
    if keys is not None and found.lines and not found.signed:
        raise AuditBroken(found.lines, "no signed head")
    return found

"""TOML files as sources: what they say, whether they changed."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import tomllib
from typing import TYPE_CHECKING, final

from hastack._core._errors import ConfigMistake, InvalidArgument

from ._layers import Snapshot
from ._toml_lines import key_lines

if TYPE_CHECKING:
    from collections.abc import Hashable

_MAX_BYTES = 16 * 2**20  # no configuration is larger; a log given by mistake may be
_RACY = 2.0  # seconds: within them a second write may leave every stat field as it was


@final
class TomlFile:
    """A TOML file as a `Source`.

    Its version is a digest of its bytes. They are read again only when modification time, size
    or inode (behind symbolic links) changed, or when the file was so young at the last look
    that a further write might not show in them.

    Args:
        path: The file. It may be missing for now when it is watched.

    Raises:
        InvalidArgument: ``path`` is no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidArgument("path", path, "the path of a TOML file")
        self.name = os.fspath(path)
        self._seen: tuple[Hashable, str] | None = None

    def read(self) -> Snapshot:
        """The file's tables with the line of each key; what is wrong with it as mistakes."""
        try:
            text = _read(self.name).decode()
        except OSError as error:
            return self._broken(f"cannot be read: {error.strerror or error}")
        except UnicodeDecodeError:
            return self._broken("is not UTF-8 text")
        # TOML's line ends are \n and \r\n; a lone \r is an error that tomllib reports.
        text = text.replace("\r\n", "\n")
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            problem = re.sub(r" \(at .*\)$", "", str(error))
            return self._broken(f"is not valid TOML: {problem}", line)
        except RecursionError:
            return self._broken("is nested too deeply")
        try:
            lines = key_lines(text)
        except (AssertionError, IndexError):  # line numbers are not worth failing for
            lines = {}
        return Snapshot(values, {path: f"{self.name}:{line}" for path, line in lines.items()})

    def _broken(self, problem: str, line: int | None = None) -> Snapshot:
        source = self.name if line is None else f"{self.name}:{line}"
        mistake = ConfigMistake("(file)", problem, accepted="a TOML file", source=source)
        return Snapshot({}, mistakes=(mistake,))

    def version(self) -> Hashable:
        """A digest of the content; what went wrong when it cannot be read."""
        try:
            now = os.stat(self.name)  # noqa: PTH116  # one call, no Path built each second
            mark = (now.st_mtime_ns, now.st_size, now.st_ino, now.st_dev)
            if self._seen is not None and self._seen[0] == mark:
                return self._seen[1]
            from hashlib import blake2b  # brings OpenSSL

            digest = blake2b(_read(self.name), digest_size=16).hexdigest()
        except OSError as error:
            self._seen = None
            return f"unreadable: {error.errno}"
        young = abs(time.time() - now.st_mtime) < _RACY
        self._seen = None if young else (mark, digest)
        return digest

    def __repr__(self) -> str:
        return f"TomlFile({self.name!r})"


def _read(path: str) -> bytes:
    # Opening a FIFO would wait for its writer, and a device may never end.
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  # paths stay text here
        raise OSError(errno.EINVAL, "not a regular file")
    with open(path, "rb") as file:  # noqa: PTH123  # os.PathLike and str alike
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {_MAX_BYTES >> 20} MiB")
    return data


def read_secret(path: str) -> str:
    """The text of a secret's file.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8; the error does not go into messages.
    """
    return _read(path).decode()

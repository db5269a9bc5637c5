"""What was accepted before, on disk: a lower security version is never accepted again."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import NotTrusted
from hastack._core._whole_file import replace

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ("Floors",)


@final
class Floors:
    """The lowest security version of each plugin that is still accepted, and what it imported.

    Any number of processes may share the file.

    Args:
        path: Where it is kept; a new one begins at nothing.

    Raises:
        NotTrusted: The file is there and cannot be read: nothing is accepted then.

    Example:
        >>> import tempfile
        >>> from hastack import wasm
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     floors = wasm.Floors(f"{folder}/floors.json")
        ...     floors.rise("policy", 3, ())
        ...     floors.floor("policy")
        3
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._read()

    def floor(self, name: str) -> int:
        """The lowest version that is accepted; 0 when nothing was yet."""
        svn: int = self._read().get(name, {"svn": 0})["svn"]
        return svn

    def imports(self, name: str) -> frozenset[str] | None:
        """What the version that was accepted last imports; ``None`` when nothing was yet."""
        found = self._read().get(name)
        return None if found is None else frozenset(found["imports"])

    def rise(self, name: str, svn: int, imports: tuple[str, ...]) -> None:
        """A version was accepted. The floor rises to it, and never falls."""
        with self._locked():
            known = self._read()
            before = known.get(name, {"svn": 0})["svn"]
            known[name] = {"svn": max(svn, before), "imports": sorted(imports)}
            self._write(known)

    def lower(self, name: str, svn: int) -> None:
        """An operator takes the floor down, so that an older version is accepted once more."""
        with self._locked():
            known = self._read()
            if name in known:
                known[name]["svn"] = svn
                self._write(known)

    def _write(self, known: dict[str, Any]) -> None:
        replace(self._path, json.dumps(known, sort_keys=True, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_bytes())
            for entry in known.values():
                if not isinstance(entry["svn"], int) or not isinstance(entry["imports"], list):
                    raise TypeError("not what was written")
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotTrusted(f"{self._path} cannot be read: {error}") from None
        result: dict[str, Any] = known
        return result

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_name(f"{self._path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

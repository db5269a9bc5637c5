"""Accounts of running processes in files, for ``hastack observe tail``.

One file per process, written anew each second and renamed into place, so that whoever reads sees a
whole one. A process that ends in order removes its file; what a killed one leaves is recognised by
its process id.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._whole_file import replace

from . import _threads
from ._account import Account
from .metrics import Ticker

if TYPE_CHECKING:
    from .pipeline import Pipeline

PERIOD = 1.0


@final
class StatusFile:
    """Writes the accounts of a pipeline into a directory, once a second.

    Args:
        directory: Made when it is missing.
        service: Whose accounts they are.
        pipeline: The accounts.
    """

    def __init__(self, directory: Path, service: str, pipeline: Pipeline) -> None:
        self._directory = Path(directory)
        self._service = service
        self._pipeline = pipeline
        self._ticker = Ticker(PERIOD, self._write)
        self._failed = False
        self._write()
        self._ticker.start()

    def _write(self) -> None:
        path = self._directory / f"{os.getpid()}.json"
        accounts = {name: as_json(a) for name, a in self._pipeline.accounts().items()}
        content = {
            "pid": os.getpid(),
            "service": self._service,
            "at": time.time(),
            "accounts": accounts,
        }
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            replace(path, json.dumps(content).encode(), durable=False)
        except OSError as error:
            if not self._failed:
                _threads.log.warning("accounts cannot be written to %s: %s", path, error)
            self._failed = True

    def close(self) -> None:
        """Write no more, and remove the file."""
        self._ticker.stop()
        with suppress(OSError):
            (self._directory / f"{os.getpid()}.json").unlink(missing_ok=True)


def as_json(account: Account) -> dict[str, Any]:
    """An account as plain numbers."""
    found = {f.name: getattr(account, f.name) for f in attrs.fields(Account)}
    return found | {"dropped": dict(account.dropped)}


@final
@attrs.frozen
class Status:
    """What one process last wrote.

    Attributes:
        pid: Its process id.
        service: Its service.
        at: When, in seconds since the epoch.
        alive: Whether a process of that id is there.
        accounts: The account of each exporter.
    """

    pid: int
    service: str
    at: float
    alive: bool
    accounts: dict[str, Account]


def read_status(directory: Path) -> list[Status]:
    """What the processes of a directory last wrote; files that are none are left out."""
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            accounts = {name: Account(**a) for name, a in content["accounts"].items()}
            pid = int(content["pid"])
            found.append(Status(pid, str(content["service"]), content["at"], _alive(pid), accounts))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True

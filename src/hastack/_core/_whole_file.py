"""Writing a file as a whole: whoever reads it, or finds it after a crash, sees the old or the new."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Put ``data`` at ``path`` in one step.

    Args:
        path: Where; its folder must be there.
        data: All of it.
        mode: Of the file, before the umask.
        durable: Also survive a crash of the machine, not only of the process.

    Raises:
        OSError: It could not be written; what was there before still is.
    """
    # Of this thread alone: two that write the same file must not write the same one beside it.
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

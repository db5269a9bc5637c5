"""A real PostgreSQL for tests: one server on a socket in a directory, of a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self


def binaries() -> Path | None:
    """Where the newest server's programs are; Debian has them out of the way."""
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return found.parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class Postgres:
    """Starts on `__enter__`, ends on `__exit__`, and leaves nothing."""

    def __init__(self) -> None:
        home = binaries()
        assert home is not None
        self._bin = home
        # A short path: the name of a socket has at most 107 bytes. Not of root: it refuses that.
        self._directory = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._data = self._directory / "data"
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._directory, user.pw_uid, user.pw_gid)
            self._as = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
            ]

    def _run(self, *command: str, text: str | None = None) -> str:
        done = subprocess.run(
            [*self._as, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            cwd=self._directory,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout)
        return done.stdout

    def __enter__(self) -> Self:
        self._run(
            *(str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust"),
            *("-E", "UTF8", "--no-sync"),
        )
        options = f"-k {self._directory} -c listen_addresses= -c fsync=off -c timezone=UTC"
        log = self._directory / "log"
        # Not to our pipes, which the server would hold open.
        self._run(
            "sh",
            "-c",
            f"{self._bin}/pg_ctl -w -t 40 -D {self._data} -l {log} -o '{options}' start >/dev/null 2>&1",
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(
                str(self._bin / "pg_ctl"), "-w", "-m", "immediate", "-D", str(self._data), "stop"
            )
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def sql(self, text: str) -> list[list[str]]:
        """Run statements; rows of the last as text, by their fields. An error is a RuntimeError."""
        out = self._run(
            *(
                str(self._bin / "psql"),
                "-h",
                str(self._directory),
                "-U",
                "postgres",
                "-d",
                "postgres",
            ),
            *("-qXAt", "-v", "ON_ERROR_STOP=1", "-F", "\x1f", "-R", "\x1e"),
            text=text,
        )
        return [line.split("\x1f") for line in out.removesuffix("\n").split("\x1e") if line]

"""Fail when a public name has a type that a checker cannot know.

usage: typed.py     (with pyright and hastack in the same environment)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# These must derive from a class of a package that ships no types (grpc, Django, requests), or whose
# types would be asked of everybody who checks hastack's (Starlette).
DERIVED_FROM_UNTYPED = {
    "hastack.contrib.django.RateLimitMiddleware",
    "hastack.contrib.grpc.ServerContext",
    "hastack.contrib.grpc_aio.ServerContext",
    "hastack.contrib.requests.GuardedAdapter",
    "hastack.contrib.starlette.LimitRefused",
}


def main() -> None:
    """Ask ``pyright --verifytypes`` from a folder without configuration, as a user's project."""
    bin_ = Path(sys.executable).parent
    command = [bin_ / "pyright", "--verifytypes", "hastack", "--ignoreexternal", "--outputjson"]
    environment = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    report = json.loads(done.stdout)["typeCompleteness"]
    exported = report["exportedSymbolCounts"]
    if not exported["withKnownType"]:
        raise SystemExit(f"pyright found no public name of hastack\n{done.stdout}{done.stderr}")
    unknown = {
        symbol["name"]
        for symbol in report["symbols"]
        if symbol["isExported"] and not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
    }
    for name in sorted(unknown - DERIVED_FROM_UNTYPED):
        print(f"{name}: type unknown", file=sys.stderr)
    raise SystemExit(bool(unknown - DERIVED_FROM_UNTYPED))


if __name__ == "__main__":
    main()

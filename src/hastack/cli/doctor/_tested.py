"""The oldest and the newest version of each package that hastack's tests have run with.

Written by ``scripts/extras.py --write``; docs/extras.md shows the same.
"""

from __future__ import annotations

from typing import Final

TESTED: Final[dict[str, tuple[str, str]]] = {
    "attrs": ("23.2.0", "26.1.0"),
    "cattrs": ("23.2.1", "26.2.1"),
    "grpcio": ("1.60.0", "1.85.3"),
    "grpcio-health-checking": ("1.60.0", "1.85.1"),
    "protobuf": ("5.27.0", "7.36.2"),
    "starlette": ("0.37.0", "1.10.0"),
    "uvicorn": ("0.30.0", "0.54.0"),
}

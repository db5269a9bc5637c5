"""The oldest and the newest version of each package that hastack's tests have run with.

Written by ``scripts/extras.py --write``; docs/extras.md shows the same.
"""

from __future__ import annotations

from typing import Final

TESTED: Final[dict[str, tuple[str, str]]] = {
    "attrs": ("23.2.0", "26.1.0"),
    "backports.zstd": ("1.0.0", "1.8.0"),
    "cattrs": ("23.2.1", "26.2.1"),
    "cffi": ("1.16.0", "2.1.1"),
    "click": ("8.1.0", "8.5.1"),
    "cramjam": ("2.9.0", "2.14.0"),
    "cryptography": ("43.0.0", "50.0.2"),
    "grpcio": ("1.60.0", "1.85.3"),
    "grpcio-health-checking": ("1.60.0", "1.85.1"),
    "msgspec": ("0.19.0", "0.22.0"),
    "opentelemetry-api": ("1.30.0", "1.45.2"),
    "opentelemetry-sdk": ("1.30.0", "1.45.2"),
    "parsy": ("2.1", "2.2"),
    "protobuf": ("5.27.0", "7.36.2"),
    "rich": ("13.7.0", "15.0.0"),
    "starlette": ("0.37.0", "1.10.0"),
    "urllib3": ("2.2.0", "2.8.0"),
    "uvicorn": ("0.30.0", "0.54.0"),
}

"""The oldest and the newest version of each package that hastack's tests have run with.

Written by ``scripts/extras.py --write``; docs/extras.md shows the same.
"""

from __future__ import annotations

from typing import Final

TESTED: Final[dict[str, tuple[str, str]]] = {}

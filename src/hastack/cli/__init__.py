"""The ``hastack`` command, one module per package."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command line; without the ``[cli]`` extra, say what to install."""
    from hastack.errors import MissingDependency

    try:
        from ._app import app
    except MissingDependency as missing:
        print(f"hastack: {missing}", file=sys.stderr)
        raise SystemExit(2) from None
    app()

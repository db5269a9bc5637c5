"""The ``hastack`` command, one module per package."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command line; when an extra is missing, say what to install and exit with 2."""
    from hastack.errors import MissingDependency

    try:
        from ._app import app

        app(prog_name="hastack")
    except MissingDependency as missing:
        print(f"hastack: {missing}", file=sys.stderr)
        raise SystemExit(2) from None

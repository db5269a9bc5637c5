"""Log lines as typed records. Importing `combinators` needs ``hastack[logs]``."""

from __future__ import annotations

__all__: tuple[str, ...] = ()

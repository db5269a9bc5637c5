"""What `force_flush` and `shutdown` say."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, final

import attrs

from ._account import Account, total

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@attrs.frozen(kw_only=True)
class Report:
    """The outcome of a flush or of a shutdown; truthy when everything was delivered.

    Attributes:
        complete: Everything that had been emitted before the call was answered within the time,
            nothing was dropped meanwhile, and nothing is left on disk.
        took: Seconds it took.
        accounts: The account of each exporter, by name, at the end.

    Example:
        >>> from hastack.observe import Account, Report
        >>> report = Report(complete=False, took=2.0, accounts={"t": Account(emitted=3, queued=3)})
        >>> bool(report), report.account.queued
        (False, 3)
        >>> print(report)
        incomplete after 2.00 s
          t: 3 emitted, 0 sent, 3 queued
    """

    complete: bool
    took: float
    accounts: Mapping[str, Account] = attrs.field(factory=lambda: MappingProxyType({}))

    @property
    def account(self) -> Account:
        """All exporters together."""
        return total(self.accounts.values())

    def __bool__(self) -> bool:
        return self.complete

    def __str__(self) -> str:
        first = f"{'complete' if self.complete else 'incomplete'} after {self.took:.2f} s"
        return "\n".join([first, *(f"  {name}: {a}" for name, a in self.accounts.items())])

"""Which endpoint takes the next call, and which is left alone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_PAUSE = 0.5  # seconds; doubles with each failure in a row
_LONGEST_PAUSE = 15.0


@final
class Endpoints:
    """The health of endpoints as one client sees it.

    Calls go to the home endpoint, the same one every time, as long as it is well: one connection
    serves a process, and clients that begin with different homes share the members among them. An
    endpoint that failed takes no calls while another is well, until a probe of it has succeeded.

    Each change is one assignment, so any thread may call any method.
    """

    __slots__ = ("_down", "addresses", "home")

    def __init__(self, addresses: Sequence[str], *, home: int = 0) -> None:
        self.addresses = tuple(addresses)
        self.home = home % len(self.addresses)
        # address -> (failures in a row, time from which it may be probed)
        self._down: dict[str, tuple[int, float]] = {}

    def first(self) -> str:
        """Who takes a call."""
        if not self._down:
            return self.addresses[self.home]
        return self.order()[0]

    def order(self) -> list[str]:
        """Everybody, in the order in which to try: those that are well, then the longest absent."""
        turned = self.addresses[self.home :] + self.addresses[: self.home]
        down = dict(self._down)
        well = [address for address in turned if address not in down]
        return well + sorted(
            (address for address in turned if address in down), key=lambda a: down[a][1]
        )

    @property
    def all_well(self) -> bool:
        """Whether every endpoint's last call was answered."""
        return not self._down

    def is_well(self, address: str) -> bool:
        """Whether its last call was answered."""
        return address not in self._down

    def failed(self, address: str, now: float) -> None:
        """A call or a probe was not answered."""
        failures = self._down.get(address, (0, 0.0))[0] + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
        self._down[address] = (failures, now + pause)

    def succeeded(self, address: str) -> None:
        """A call or a probe was answered."""
        self._down.pop(address, None)

    def to_probe(self, now: float) -> str | None:
        """An endpoint that failed and may be asked again; it counts as asked from now on."""
        for address, (failures, due) in list(self._down.items()):
            if due <= now:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 16))
                self._down[address] = (failures, now + pause)
                return address
        return None

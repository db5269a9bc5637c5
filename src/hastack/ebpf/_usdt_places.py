"""Which place of a USDT probe has which arguments: the map that ``usdt.bpf.h`` looks them up in."""

from __future__ import annotations

import platform
import threading
from typing import TYPE_CHECKING, Final

from hastack._core._errors import InvalidArgument, Unsupported
from hastack._core._fork import renew_in_child

from . import _usdt_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._maps import Map

__all__ = ("SPECS", "Places")

SPECS: Final = "__bpf_usdt_specs"


class Places:
    """Entries of that map; a place is told apart by the cookie of its probe, the entry's number.

    Args:
        held: The map. Its own type says how an entry is laid out, whatever version of the header
            it was compiled with.
    """

    def __init__(self, held: Map) -> None:
        self._map = held
        self._lock = threading.Lock()
        self._numbers: dict[tuple[str, int], int] = {}
        self._uses: dict[int, int] = {}
        renew_in_child(self)

    def of(self, held: Map) -> bool:
        """Whether it is about that map."""
        return self._map is held

    def take(self, texts: Iterable[str], cookie: int) -> list[int]:
        """Entries for probes with these arguments; equal ones share one.

        Raises:
            Unsupported: An argument cannot be read, or the map has no room.
        """
        taken: list[int] = []
        try:
            with self._lock:
                for text in texts:
                    number = self._numbers.get((text, cookie))
                    if number is None:
                        number = self._fill(text, cookie)
                    self._uses[number] = self._uses.get(number, 0) + 1
                    taken.append(number)
        except BaseException:
            self.give(taken)
            raise
        return taken

    def give(self, numbers: Iterable[int]) -> None:
        """These probes are detached."""
        with self._lock:
            for number in numbers:
                self._uses[number] -= 1
                if not self._uses[number]:
                    del self._uses[number]
                    self._numbers = {k: n for k, n in self._numbers.items() if n != number}

    def _fill(self, text: str, cookie: int) -> int:
        arguments = _usdt_arguments.parse(text, platform.machine())
        number = next(n for n in range(len(self._uses) + 1) if n not in self._uses)
        if number >= self._map.max_entries:
            raise Unsupported(
                "another place of a USDT probe",
                f"{SPECS} has room for {self._map.max_entries:,}",
                remedy="Compile with a larger BPF_USDT_MAX_SPEC_CNT",
            )
        rows = [each.fields() for each in arguments]
        rows += [{}] * (_usdt_arguments.MOST - len(rows))
        try:
            self._map[number] = {"args": rows, "usdt_cookie": cookie, "arg_cnt": len(arguments)}
        except InvalidArgument:  # no such member
            raise Unsupported(
                f"an argument in memory at the sum of two registers ({text})",
                "the usdt.bpf.h that the object was compiled with does not know them",
                remedy="Compile with that of libbpf 1.7",
            ) from None
        self._numbers[text, cookie] = number
        return number

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

"""The bounded table that keyed limiters keep their state in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_AT_MOST: Final = 64


@final
class KeyTable:
    """Key to state, in two generations, evicting idle keys at a bounded cost per new key.

    A state is idle when forgetting it changes nothing: the limiter would treat a new key the
    same. Each new key makes the table look at two older ones and drop those that are idle; a
    table at ``max_keys`` looks at up to 64 before it declares itself full. The two dicts act as
    the hand of a clock: what the hand has passed (or what was used since) is in ``young``, what
    it will meet is in ``old``, and when ``old`` is empty they change places. Using a key in
    ``young`` costs one dict lookup and nothing else, which an LRU order could not offer.

    Args:
        max_keys: Most keys held at once.
        busy_until: From a state, the time at which it becomes idle.

    Attributes:
        young: Look here first; write here always.
        evicted: Idle keys dropped so far.
        turned_away: New keys that found the table full.
        soonest: When the table was full, the earliest time at which one of the keys looked at
            becomes idle.
    """

    def __init__(self, max_keys: int, busy_until: Callable[[Any], float]) -> None:
        self.young: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}
        self._max_keys = max_keys
        self._busy_until = busy_until
        self.evicted = 0
        self.turned_away = 0
        self.soonest = 0.0

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def find(self, key: Any) -> Any:
        """The state of ``key``, or ``None``; moves nothing."""
        state = self.young.get(key)
        return self._old.get(key) if state is None else state

    def recall(self, key: Any) -> Any:
        """The state of a key that is not in ``young``, moved there; ``None`` when unknown."""
        state = self._old.pop(key, None)
        if state is not None:
            self.young[key] = state
        return state

    def make_room(self, now: float) -> bool:
        """Sweep a little, and say whether one more key may come in."""
        full = len(self.young) + len(self._old) >= self._max_keys
        self.soonest = float("inf")
        # Two per new key and not one: the table shrinks while keys come and go.
        for step in range(_LOOK_AT_MOST if full else 2):
            if not self._old:
                if not self.young:
                    break
                self.young, self._old = self._old, self.young
            key, state = self._old.popitem()
            until = self._busy_until(state)
            if until > now:
                self.young[key] = state
                self.soonest = min(self.soonest, until)
            else:
                self.evicted += 1
                full = False
                if step:
                    break
        if full:
            self.turned_away += 1
        return not full

    def forget(self, key: Any) -> None:
        """Drop one key."""
        self.young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Drop every key."""
        self.young.clear()
        self._old.clear()

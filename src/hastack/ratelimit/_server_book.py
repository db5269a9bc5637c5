"""How much a server lets its client send, as far as its answers say. Pure.

Every answer is old when it arrives: requests that are still under way may or may not be in the
number of those that remain. So all of them are taken to be missing from it, and what may be sent
is the number that remains less those under way. Answers overtake each other, too. Only one that
was asked for after every other answer had been heard is newer than all of them and is believed as
it is; from any other, only bad news counts.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._server_fields import Said

UNKNOWN_RESET: Final = 1.0
"""Seconds until a server is asked again that said "nothing left" and not for how long."""

_MOST_POLICIES: Final = 32
_LOOK_AT_MOST: Final = 64


class Mark(NamedTuple):
    """What had been heard of one key when a request was sent.

    Attributes:
        heard: Answers, lost ones included.
        lost: Those among them that said nothing of some quota.
    """

    heard: int
    lost: int


@final
class _Policy:
    """One quota of one key: ``least`` more requests until ``until``, if none were under way."""

    __slots__ = ("least", "until", "window")

    def __init__(self) -> None:
        self.least: float = inf
        self.until: float = inf
        self.window: float | None = None

    def roll(self, now: float) -> None:
        """Begin the next window when this one is over: one request asks what there is now."""
        # Not the whole quota: with a bucket on the other side, little has come back by then.
        if now >= self.until:
            self.least, self.until = 1.0, inf

    def spend(self, now: float) -> None:
        """One more request is gone, of which the server said nothing."""
        self.least -= 1.0
        if self.until == inf and self.least < 1.0:
            self.until = now + (self.window or UNKNOWN_RESET)

    def learn(self, said: Said, now: float, *, newest: bool, lost: int) -> None:
        """Take one answer's word, which knows nothing of what was ``lost`` since it was asked."""
        self.window = said.window or self.window
        self.roll(now)
        reset = said.reset
        until = now + ((self.window or UNKNOWN_RESET) if reset is None else reset)
        # Much later than what was known: the first word of the next window.
        later = self.window is not None and until - self.until > self.window / 2
        if newest or later or self.least == inf:
            self.least, self.until = float(said.remaining - lost), until
        else:
            self.least = min(self.least, float(said.remaining - lost))
            self.until = until if self.until == inf else max(self.until, until)


@final
class _Account:
    """All that is known of one key."""

    __slots__ = ("heard", "lost", "policies", "shut_until", "under_way")

    def __init__(self) -> None:
        self.policies: dict[tuple[str, str], _Policy] = {}
        self.under_way = 0
        self.heard = 0
        self.lost = 0
        self.shut_until = -inf

    def idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        if self.under_way or now < self.shut_until:
            return False
        return all(now >= policy.until or policy.least == inf for policy in self.policies.values())


@final
class ServerBook:
    """Accounts by key. The caller serialises the methods.

    Args:
        max_keys: Most accounts kept; beyond that, idle ones go first, then the oldest without
            requests under way.

    Attributes:
        waiting: See `_waiters.WaitedOn`.
    """

    def __init__(self, max_keys: int) -> None:
        self.accounts: dict[Any, _Account] = {}
        self.waiting = False
        self._max_keys = max_keys

    def wait_of(self, key: Any, now: float, ahead: float = 0.0) -> float:
        """Seconds until one more request may leave; 0.0 now, inf when an answer will tell."""
        account = self.accounts.get(key)
        if account is None:
            return 0.0
        wait = max(0.0, account.shut_until - now)
        for policy in account.policies.values():
            policy.roll(now)
            if policy.least - account.under_way - ahead < 1.0:
                wait = max(wait, policy.until - now)
        return wait

    def send(self, key: Any, now: float) -> float:
        """Count one request as under way and answer 0.0, or say how long to wait."""
        wait = self.wait_of(key, now)
        if wait == 0.0:
            account = self.accounts.get(key)
            if account is None:
                self._make_room(now)
                account = self.accounts[key] = _Account()
            account.under_way += 1
        return wait

    def heard(self, key: Any) -> Mark:
        """What `answered` wants to know about the moment of sending."""
        account = self.accounts.get(key)
        return Mark(0, 0) if account is None else Mark(account.heard, account.lost)

    def answered(
        self, key: Any, mark: Mark, now: float, said: Iterable[Said], retry_after: float | None
    ) -> None:
        """A request that was sent when `heard` was ``mark`` has its answer.

        Args:
            key: As given to `send`.
            mark: What `heard` said then.
            now: When the answer came.
            said: What it said about quotas.
            retry_after: Seconds for which the server wants no further request.
        """
        account = self.accounts.get(key)
        if account is None:
            return
        account.under_way = max(0, account.under_way - 1)
        newest = account.heard == mark.heard
        lost = max(0, account.lost - mark.lost)
        account.heard += 1
        silent = dict(account.policies)
        for each in said:
            policy = self._policy(account, (each.policy, each.partition))
            policy.learn(each, now, newest=newest, lost=lost)
            silent.pop((each.policy, each.partition), None)
        account.lost += bool(silent)
        for policy in silent.values():
            policy.spend(now)
        if retry_after is not None:
            account.shut_until = max(account.shut_until, now + retry_after)

    def unsent(self, key: Any) -> None:
        """A request that was counted never left."""
        account = self.accounts.get(key)
        if account is not None:
            account.under_way = max(0, account.under_way - 1)

    def forget_callers(self) -> None:
        """In a forked child: requests under way are the parent's."""
        for account in self.accounts.values():
            account.under_way = 0
            account.heard += 1

    def _policy(self, account: _Account, name: tuple[str, str]) -> _Policy:
        policy = account.policies.get(name)
        if policy is None:
            if len(account.policies) >= _MOST_POLICIES:
                oldest = min(account.policies, key=lambda each: account.policies[each].until)
                del account.policies[oldest]
            policy = account.policies[name] = _Policy()
        return policy

    def _make_room(self, now: float) -> None:
        if len(self.accounts) < self._max_keys:
            return
        quiet = None
        for _, key in zip(range(_LOOK_AT_MOST), self.accounts, strict=False):
            account = self.accounts[key]
            if account.idle(now):
                quiet = key
                break
            if quiet is None and not account.under_way:
                quiet = key
        if quiet is None:  # all of them have requests under way: the oldest has to do
            quiet = next(iter(self.accounts))
        del self.accounts[quiet]

    # What the waiting room asks for; a cost is always one request.

    def take_or_wait(self, key: Any, cost: float, now: float) -> float:
        """`send`."""
        return self.send(key, now)

    def slot_in(self, key: Any, ahead: float, cost: float, now: float) -> float:
        """When a request behind ``ahead`` others could leave at the earliest; 0.0 when unknown."""
        wait = self.wait_of(key, now)
        return 0.0 if wait == inf else wait

    def mark(self, key: Any, cost: float, now: float) -> Mark:
        """`heard`."""
        return self.heard(key)

    def charge(self, key: Any, cost: float, now: float, mark: object = None) -> None:
        """Only ever gives back: the caller that was admitted is gone."""
        self.unsent(key)

    def refresh(self) -> None:
        """``waiting`` changed; nothing is derived from it."""

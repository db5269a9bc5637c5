"""What follows a failed try: which endpoint is asked next and when, or which error is final."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, final

from hastack._core._cancel import BACKGROUND
from hastack.context import with_cancel
from hastack.ratelimit._backoff import Backoff, Stop

from ._status import Verdict, error_of, judge

if TYPE_CHECKING:
    from hastack._core._cancel import Context
    from hastack._core._errors import StoreError

    from ._transport import Transport

TICK = 0.01  # seconds; a call's own timer may ring this early by the context's clock
_LOGINS = 2  # how often one call asks for a new token
_PATIENCE = 0.25  # seconds without an answer after which an endpoint counts as not well
_BACKOFF = Backoff(attempts=8, base=0.05, cap=1.0, factor=2.0, jitter=True, max_retry_after=0.0)


class NotSent(Exception):
    """A try that ended before its request had left: it may be repeated whatever it was."""

    verdict = Verdict.ELSEWHERE

    def __init__(self, code: str, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class Unheard(NotSent):
    """A try that was given up because its connection is silent."""

    verdict = Verdict.UNSURE

    def __init__(self) -> None:
        super().__init__("UNAVAILABLE", "nothing was heard on the connection")


def left(ctx: Context, ends: float) -> float:
    """Seconds that a call which ends at ``ends`` may still take, never below zero."""
    found = ends - time.monotonic()
    if ctx is not BACKGROUND:
        remaining = ctx.remaining()
        if remaining is not None and remaining < found:
            found = remaining
    return max(found, 0.0)


def raise_if_ended(ctx: Context, failure: Exception) -> None:
    """Raise the context's error if it has ended, which is then why ``failure`` came."""
    if ctx is BACKGROUND:
        return
    remaining = ctx.remaining()
    if remaining is not None and remaining <= TICK and _read(failure)[0] == "DEADLINE_EXCEEDED":
        ctx._ring()
    ended = ctx.err()
    if ended is not None:
        raise ended from failure


@final
class Attempts:
    """The tries of one call from the first failure on."""

    def __init__(
        self,
        transport: Transport,
        ctx: Context,
        began: float,
        ends: float,
        *,
        idempotent: bool,
        pinned: bool,
    ) -> None:
        self._transport = transport
        self._shared = transport._shared
        self._ctx = ctx
        self._began = began
        self._ends = ends
        self._idempotent = idempotent
        self._pinned = pinned
        self._tried: set[str] = set()
        self._rounds = 0
        self._logins = 0

    async def next(self, address: str, failure: Exception, used: Any, asked: float) -> str:
        """The endpoint for the next try.

        Args:
            address: Where the last try went.
            failure: How it ended.
            used: The metadata that it carried.
            asked: When it began, as a reading of `time.monotonic`.

        Raises:
            ContextError: The context has ended.
            StoreError: There is no next try.
        """
        code, details, verdict = _read(failure)
        raise_if_ended(self._ctx, failure)
        if verdict is Verdict.LOGIN and self._may_log_in():
            self._shared.forget_token(used)
            return address
        # A deadline that leaves no time to answer says nothing about the endpoint.
        patient = code != "DEADLINE_EXCEEDED" or time.monotonic() - asked >= _PATIENCE
        if verdict in {Verdict.ELSEWHERE, Verdict.UNSURE} and patient:
            self._shared.missed(address)
        if verdict is Verdict.UNSURE and code == "DEADLINE_EXCEEDED" and self._spent():
            details = f"no answer within {self._ends - self._began:.3g} s"
        error = error_of(
            code,
            details,
            endpoint=address,
            indeterminate=verdict is Verdict.UNSURE and not self._idempotent,
        )
        # What grpc says of a connection says more than that there is none.
        if not isinstance(failure, NotSent) or self._shared.trouble is None:
            self._shared.trouble = error
        stop = self._final(verdict, failure)
        if stop is None:
            self._tried.add(address)
            found = self._elsewhere(verdict)
            if found is not None:
                return found
            stop = await self._back_off(address)
        if stop is None:
            self._tried.clear()
            return address if self._pinned else self._shared.endpoints.first()
        if stop:
            error.add_note(f"etcd: gave up: {stop}")
        raise error from (None if isinstance(failure, NotSent) else failure)

    def _may_log_in(self) -> bool:
        self._logins += 1
        return self._shared.options.user is not None and self._logins <= _LOGINS

    def _spent(self) -> bool:
        return left(self._ctx, self._ends) <= TICK

    def _final(self, verdict: Verdict, failure: Exception) -> str | None:
        """Why there is no next try (empty: it needs no explaining); ``None`` if there may be."""
        if verdict in {Verdict.RAISE, Verdict.LOGIN}:
            return ""
        if verdict is Verdict.UNSURE and not self._idempotent:
            return ""
        if self._spent():
            return ""
        # Tries that never reached a server are no load on it.
        if verdict is not Verdict.ELSEWHERE and not self._shared.budget.try_spend():
            return Stop.BUDGET.value
        return None

    def _elsewhere(self, verdict: Verdict) -> str | None:
        """An endpoint that was not tried in this round."""
        if self._pinned or verdict is Verdict.AGAIN:
            return None
        return next((a for a in self._shared.endpoints.order() if a not in self._tried), None)

    async def _back_off(self, address: str) -> str | None:
        """Wait before the next round; why there is none, if there is none."""
        self._rounds += 1
        delay = _BACKOFF.next_delay(
            self._rounds,
            drawn=random.random(),
            retry_after=None,
            remaining=left(self._ctx, self._ends),
        )
        if isinstance(delay, Stop):
            return delay.value
        async with with_cancel(self._ctx):
            await self._transport._lines.rest(address, delay)
        return None

    def untried(self) -> int:
        """How many endpoints this round has left, the one that is asked next included."""
        return (
            1 if self._pinned else max(1, len(self._shared.endpoints.addresses) - len(self._tried))
        )


def _read(failure: Exception) -> tuple[str, str, Verdict]:
    if isinstance(failure, NotSent):
        return failure.code, failure.details, failure.verdict
    error: Any = failure
    code, details = error.code().name, error.details() or ""
    return code, details, judge(code, details)


def final_error(failure: Exception, address: str) -> StoreError:
    """The error for a failure that nothing follows."""
    code, details, _ = _read(failure)
    return error_of(code, details, endpoint=address)

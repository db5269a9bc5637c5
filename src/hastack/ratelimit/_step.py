"""The step rule as a guard around a token bucket."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, final

from hastack._core import _validate
from hastack._core._errors import InvalidArgument, Rejected
from hastack._core._fork import renew_in_child

from ._guard import Admission, Refusal
from ._step_rule import StepCore
from ._token_bucket import TokenBucket

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ("StepRule",)


@final
class StepRule(Admission):
    """Drives the rate of a token bucket up and down by fixed steps.

    Every 5 seconds it looks at the 95th percentile and the success rate of the last 30 seconds
    (in slots of 100 ms). After two abnormal judgements in a row the rate goes down to 0.8 of
    itself, else up by a tenth, to at most 1.5 times the initial rate.

    This is a published rule, kept to compare with. Its known faults: judgements share five sixths
    of their window, so one blip counts as six abnormal ones; it grows on the first abnormal
    judgement, and for ever while normal and abnormal alternate; it has no floor and no minimum
    of calls; and a rate cannot follow a dependency whose latency changes. `AdaptiveLimit` is
    what to use.

    Args:
        bucket: The bucket whose rate is driven; it admits the calls.
        max_p95: Latency in seconds above which the 95th percentile is abnormal.
        min_success: Success rate below which a judgement is abnormal. Every `Exception` is a
            failure; cancelled calls and those that a guard further in refused do not count.
        name: Appears in errors and events; default: the bucket's name.

    Raises:
        InvalidArgument: A setting is out of its range.

    Example:
        >>> from hastack.ratelimit import StepRule, TokenBucket
        >>> from hastack.testing import ManualClock
        >>> clock = ManualClock()
        >>> api = StepRule(TokenBucket(100, clock=clock), max_p95=0.25)
        >>> @api
        ... def handler(seconds):
        ...     clock.advance(seconds)
        >>> handler(0.01); handler(5.0); handler(0.01)
        >>> round(api.rate, 3)
        110.0
    """

    _settles = True

    def __init__(
        self,
        bucket: TokenBucket,
        *,
        max_p95: float | timedelta,
        min_success: float = 0.95,
        name: str | None = None,
    ) -> None:
        if not isinstance(bucket, TokenBucket):
            raise InvalidArgument("bucket", bucket, "a TokenBucket")
        self.name = bucket.name if name is None else name
        self._bucket = bucket
        self._clock = bucket._clock
        self._waits = bucket._waits
        self._lock = threading.Lock()
        self._core = StepCore(
            bucket.rate,
            _validate.seconds("max_p95", max_p95),
            _validate.fraction("min_success", min_success),
            self._clock.monotonic(),
        )
        renew_in_child(self)

    @property
    def rate(self) -> float:
        """Permits per second now."""
        return self._bucket.rate

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        self._bucket._admit(now, args, kwargs)
        return now

    def _decide(
        self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Refusal | None]:
        return now, self._bucket._decide(now, args, kwargs)[1]

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        self._bucket._admit_waiting(args, kwargs)
        return self._clock.monotonic()

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        await self._bucket._admit_waiting_async(args, kwargs)
        return self._clock.monotonic()

    def _settle(self, permit: float, now: float, error: BaseException | None, result: Any) -> None:
        ignored = isinstance(error, Rejected) or not isinstance(error, Exception)
        if error is not None and ignored:
            return
        with self._lock:
            before = self._core.rate
            rate = self._core.observe(now, now - permit, error is not None)
        if rate != before:
            self._bucket.update(rate=rate)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

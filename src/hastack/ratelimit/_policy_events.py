"""What the policies that run calls tell to those who listen."""

from __future__ import annotations

import attrs

from hastack.events import Event, topic


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """A `Retry` waits before its next try.

    Attributes:
        name: Name of the policy.
        attempt: Number of the try that comes; the first retry is 2.
        delay: Seconds until then.
        error: What the last try raised; ``None`` when its result asked for a retry.
    """

    name: str
    attempt: int
    delay: float
    error: Exception | None


@attrs.frozen(kw_only=True)
class HedgeStarted(Event):
    """A `Hedge` starts another attempt beside those that run.

    Attributes:
        name: Name of the policy.
        attempt: Number of the attempt; the first hedge is 2.
    """

    name: str
    attempt: int


@attrs.frozen(kw_only=True)
class FallbackUsed(Event):
    """A `Fallback` answered in place of a call that failed.

    Attributes:
        name: Name of the policy.
        error: What the call raised.
    """

    name: str
    error: Exception


RETRY_SCHEDULED = topic(RetryScheduled)
HEDGE_STARTED = topic(HedgeStarted)
FALLBACK_USED = topic(FallbackUsed)

"""Whether a stream is alive: ask now and then, and give it up when nothing at all comes back."""

from __future__ import annotations

import enum
from typing import final

__all__ = ("Liveness", "Look")


class Look(enum.Enum):
    """What to do after a look at the stream."""

    WELL = "nothing"
    ASK = "ask for progress"
    DEAD = "give the stream up"


@final
class Liveness:
    """What one stream was asked and when it was last heard.

    Args:
        interval: Seconds between questions.
        deadline: Seconds after a question within which anything has to be heard.
        now: When the stream was opened.

    Attributes:
        asked_at: When the last question for progress was sent.
    """

    __slots__ = ("_deadline", "_interval", "_unanswered_since", "asked_at")

    def __init__(self, interval: float, deadline: float, now: float) -> None:
        self._interval = interval
        self._deadline = deadline
        self._unanswered_since: float | None = None
        self.asked_at = now

    def asked(self, now: float) -> None:
        """Something was sent that the server has to answer."""
        if self._unanswered_since is None:
            self._unanswered_since = now

    def heard(self) -> None:
        """Something came."""
        self._unanswered_since = None

    def look(self, now: float) -> Look:
        """Judge the stream, and ask when it is time."""
        late = None if self._unanswered_since is None else now - self._unanswered_since
        if late is not None and late >= self._deadline:
            if late < 1.5 * self._deadline:
                return Look.DEAD
            # This process stood still, and whatever came meanwhile is still to be read.
            self._unanswered_since = None
        elif now - self.asked_at < self._interval:
            return Look.WELL
        self.asked_at = now
        self.asked(now)
        return Look.ASK

    def due(self) -> float:
        """When to look next."""
        at = self.asked_at + self._interval
        if self._unanswered_since is not None:
            at = min(at, self._unanswered_since + self._deadline)
        return at

"""What becomes of a cluster's instances while that cluster is out of reach."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, TypeAlias, final

import attrs

__all__ = ("Heartbeat", "OriginState", "OriginVigil", "Policy", "drained")

Policy: TypeAlias = Literal["keep", "drain", "revoke"]
"""What to do once an origin has been stale for the time of grace."""


class OriginState(enum.Enum):
    """How a forwarded cluster stands."""

    LIVE = "live"
    STALE = "stale"
    DRAINED = "drained"
    REVOKED = "revoked"


@final
class OriginVigil:
    """Live, then stale, then what the policy says: from when the origin was last heard.

    Args:
        policy: ``"keep"`` leaves a stale origin's instances as they are; ``"drain"`` marks them
            as draining after the grace, ``"revoke"`` takes them away.
        stale_after: Seconds without certainty until an origin counts as stale.
        grace: Seconds that it may be stale before the policy is carried out.
        now: Monotonic time. An origin that was never heard is stale from the first moment; its
            grace begins here.
    """

    __slots__ = ("_grace", "_heard", "_policy", "_since", "_stale_after")

    def __init__(self, *, policy: Policy, stale_after: float, grace: float, now: float) -> None:
        self._policy = policy
        self._stale_after = stale_after
        self._grace = grace
        self._heard: float | None = None
        self._since = now

    def heard(self, at: float) -> None:
        """At that time the origin was known to be as it was forwarded."""
        if self._heard is None or at > self._heard:
            self._heard = at

    def silence(self, now: float) -> float:
        """Seconds since the origin was last heard, or since the vigil began."""
        return max(0.0, now - (self._since if self._heard is None else self._heard))

    def look(self, now: float) -> OriginState:
        """The state at ``now``."""
        silence = self.silence(now)
        if self._heard is not None and silence <= self._stale_after:
            return OriginState.LIVE
        if self._policy == "keep" or silence <= self._stale_after + self._grace:
            return OriginState.STALE
        return OriginState.DRAINED if self._policy == "drain" else OriginState.REVOKED


def drained(value: bytes) -> bytes:
    """A registration with its instance marked as draining; what is none stays as it is.

    Members that this version does not know are kept.
    """
    try:
        known: Any = json.loads(value)
    except ValueError:
        return value
    if not isinstance(known, dict) or known.get("draining") is True:
        return value
    return json.dumps(
        {**known, "draining": True}, ensure_ascii=False, separators=(",", ":")
    ).encode()


@attrs.frozen
class Heartbeat:
    """What stands under an origin's heartbeat key, which hangs on its forwarder's lease.

    A reader counts an origin as live while the key is there and says nothing else: a key that is
    gone means that the forwarder is.

    Attributes:
        state: How the origin stands.
        writer: Which forwarder says so.
    """

    state: OriginState
    writer: str = ""

    @property
    def live(self) -> bool:
        """Whether what is mirrored of this origin is as it is there."""
        return self.state is OriginState.LIVE

    def to_bytes(self) -> bytes:
        """What is stored."""
        known = {"state": self.state.value, "writer": self.writer}
        return json.dumps(known, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, value: bytes) -> Heartbeat:
        """Read what `to_bytes` wrote. Of anything else counts that it is there: a sign of life."""
        try:
            found = json.loads(value)
            return cls(OriginState(found["state"]), str(found.get("writer", "")))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(OriginState.LIVE)

"""What to do so that a key is there, on our lease, with our value.

Nothing is done step by step: each time, what the store is known to hold is compared with what it
should hold, and the next action follows. So it does not matter how the key went away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from hastack.discovery._records import KeyValue

__all__ = ("Action", "Grant", "Loss", "Reconcile", "Rest", "Wait", "Write", "slot", "spread")

Loss: TypeAlias = Literal["deleted", "overwritten", "lease lost"]

RETRY_BASE: Final = 0.05
RETRY_CAP: Final = 0.75
"""A store that comes back is noticed within so many seconds."""
REFUSED_CAP: Final = 5.0
"""A refusal (permission, quota) lasts; asking more often than this changes nothing."""
PATIENT_LOSSES: Final = 3
"""So many losses in a row are made good at once; whoever causes more is fought with in slow motion."""
DELETED_CAP: Final = 1.0
"""A key that is being deleted again and again is away for so long at most."""
FIGHT_CAP: Final = 30.0
"""Two that keep one key take it from each other no more often than this, in seconds."""
CALM: Final = 60.0
"""After so long without a loss, the next one counts as the first."""
STARTS_PER_SECOND: Final = 400.0
"""How many registrations one client begins per second after it lost them all."""


@attrs.frozen
class Rest:
    """Everything is as it should be."""


@attrs.frozen
class Wait:
    """Nothing is to be done before ``until``."""

    until: float


@attrs.frozen
class Grant:
    """A new lease is needed."""


@attrs.frozen
class Write:
    """Put ``value`` on ``lease`` if the key is still as it was at ``revision``; read it if not.

    Attributes:
        lease: The lease to hang it on.
        value: The value.
        revision: The ``mod_revision`` that is known; 0 for a key that does not exist. A request
            that was given up and arrives late finds another one, and does nothing.
        version: Which of the values asked for this is.
    """

    lease: int
    value: bytes
    revision: int
    version: int


Action: TypeAlias = Rest | Wait | Grant | Write


@final
class Reconcile:
    """The state of one kept key.

    Args:
        value: What it should hold.

    Attributes:
        lease: The lease it should hang on; 0 while there is none.
        wanted: The value that it should hold.
        version: Number of that value, counted from 1.
        stored: Number of the newest value that the store was known to hold.
        losses: How often in a row the key went away.
        contested: It is being taken away again and again.
    """

    __slots__ = (
        *("_doubtful", "_failures", "_found", "_last_loss", "_not_before", "_present", "_refused"),
        *("_revision", "contested", "lease", "losses", "stored", "version", "wanted"),
    )

    def __init__(self, value: bytes) -> None:
        self.wanted = value
        self.version = 1
        self.stored = 0
        self.lease = 0
        self.losses = 0
        self.contested = False
        self._found = 0  # the key's mod_revision as far as it is known; 0 when it does not exist
        self._revision = 0
        self._present = False
        self._doubtful = False  # it was present before what was known was forgotten
        self._failures = 0
        self._refused = False
        self._last_loss = float("-inf")
        self._not_before = float("-inf")

    @property
    def present(self) -> bool:
        """Whether the store was last known to hold the key on our lease."""
        return self._present

    @property
    def revision(self) -> int:
        """Everything up to this revision is known of the key."""
        return self._revision

    def decide(self, now: float) -> Action:
        """What to do at ``now``."""
        settled = self._present and self.stored == self.version
        if settled:
            return Rest()
        if now < self._not_before:
            return Wait(self._not_before)
        if not self.lease:
            return Grant()
        return Write(self.lease, self.wanted, self._found, self.version)

    def want(self, value: bytes) -> int:
        """Ask for another value; returns its number."""
        self.wanted = value
        self.version += 1
        if self._refused:
            self._not_before = float("-inf")  # what was refused may have been the value
        return self.version

    def granted(self, lease: int) -> None:
        """A lease was granted."""
        self.lease = lease

    def lost_lease(self, now: float, drawn: float) -> Loss | None:
        """The lease is gone, and what hung on it."""
        self.forget()
        self.lease = 0
        was_present, self._doubtful = self._doubtful, False
        if was_present:
            return self._lose("lease lost", now, drawn)
        self.failed(now, drawn)
        return None

    def forget(self) -> None:
        """What was known of the store holds no longer: its data may be older than that, or gone."""
        self._doubtful |= self._present
        self._found = 0
        self._revision = 0
        self._present = False

    def wrote(self, write: Write, revision: int) -> None:
        """The store did what `decide` asked for, at ``revision``."""
        self._failures = 0
        self._refused = False
        if revision <= self._revision or write.lease != self.lease:
            return  # a watch has told of a later change, or the lease has gone meanwhile
        self._found = revision
        self._revision = revision
        self._present = True
        self.stored = max(self.stored, write.version)

    def missed(
        self, write: Write, kv: KeyValue | None, revision: int, now: float, drawn: float
    ) -> Loss | None:
        """The key was not as ``write`` expected it; the store read ``kv`` instead.

        Returns:
            How the key got lost, if this is how that came to be known.
        """
        if self._found == write.revision and revision <= self._revision:
            # It differs from what is known and is older: somebody brought back a backup.
            self.forget()
        return self.seen(kv, revision, now, drawn)

    def seen(self, kv: KeyValue | None, revision: int, now: float, drawn: float) -> Loss | None:
        """The store was seen to hold ``kv``, or nothing, as of ``revision``.

        Returns:
            How the key got lost, if this is how that came to be known.
        """
        if revision <= self._revision:
            return None
        self._revision = revision
        self._found = 0 if kv is None else kv.mod_revision
        was_present = self._present or self._doubtful
        self._doubtful = False
        was_stored = was_present and self.stored == self.version
        self._present = kv is not None and kv.lease == self.lease != 0
        if self._present and kv is not None and kv.value == self.wanted:
            self.stored = self.version
            return None
        self.stored = min(self.stored, self.version - 1)
        if was_stored or (was_present and not self._present):
            return self._lose("deleted" if kv is None else "overwritten", now, drawn)
        return None

    def failed(self, now: float, drawn: float, *, refused: bool = False) -> None:
        """An action failed; nothing is known of its effect.

        Args:
            now: The time.
            drawn: A random number in [0, 1): full jitter.
            refused: The store answered, and said no.
        """
        self._failures += 1
        self._refused = refused
        cap = REFUSED_CAP if refused else RETRY_CAP
        self._not_before = now + drawn * _grown(RETRY_BASE, self._failures, cap)

    def _lose(self, loss: Loss, now: float, drawn: float) -> Loss:
        if now - self._last_loss > CALM:
            self.losses = 0
        self._last_loss = now
        self.losses += 1
        extra = self.losses - PATIENT_LOSSES
        self.contested = extra > 0
        if self.contested:
            cap = FIGHT_CAP if loss == "overwritten" else DELETED_CAP
            self._not_before = now + _grown(0.25, extra, cap) * (0.5 + 0.5 * drawn)
        return loss


def _grown(base: float, times: int, cap: float) -> float:
    return min(cap, base * 2.0 ** min(times, 32))


def slot(now: float, busy_until: float) -> tuple[float, float]:
    """When one more registration may begin, and until when the line is then taken."""
    begin = max(now, busy_until)
    return begin, begin + 1.0 / STARTS_PER_SECOND


def spread(waiting: int, drawn: float) -> float:
    """Seconds to hold back after the store has come back, so that not all clients begin at once."""
    return drawn * min(0.5, 0.05 + waiting / STARTS_PER_SECOND)

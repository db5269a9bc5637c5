"""What a forwarder was told, checked, and what it has to say about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

from ._forward_plan import Counts, Limits, Plan
from ._forward_token import fingerprint
from ._layout import _segment, origin_prefix
from ._origin import OriginState, Policy  # noqa: TC001  # attrs.resolve_types() wants them here

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._records import KeyValue, WatchEvent

__all__ = ("Journal", "Phase", "Settings", "Status")

Phase: TypeAlias = Literal[
    "new", "claiming", "standby", "connecting", "listing", "replaying", "forwarding", "stopped"
]


@attrs.frozen(kw_only=True)
class Settings:
    """The arguments of a forwarder; see there. Times are seconds."""

    origin: str
    namespaces: frozenset[bytes] | None
    selection: str
    policy: Policy
    grace: float
    stale_after: float
    coalesce: float
    share: float
    window: float
    ttl: float
    timeout: float
    backoff: float
    limits: Limits
    preempt: bool
    tick: float = 0.5
    checkpoint: float = 5.0
    page: int = 1000

    @classmethod
    def of(
        cls,
        *,
        origin: str,
        namespaces: Iterable[str] | None = None,
        policy: Policy = "keep",
        grace: object = 300.0,
        stale_after: object = 15.0,
        coalesce: object = 5.0,
        share: object = 0.15,
        window: object = 30.0,
        ttl: object = 10.0,
        timeout: object = 5.0,
        backoff: object = 5.0,
        max_instances: int = 100_000,
        preempt: bool = True,
    ) -> Settings:
        """Check what was given.

        Raises:
            InvalidArgument: Something is out of its range.
        """
        if isinstance(namespaces, str):  # the classic: its letters would be the names
            raise InvalidArgument("namespaces", namespaces, "a list of names, such as ['default']")
        names = None if namespaces is None else tuple(namespaces)
        if names is not None and not names:
            raise InvalidArgument("namespaces", names, "at least one name, or None for all")
        if policy not in {"keep", "drain", "revoke"}:
            raise InvalidArgument("policy", policy, "'keep', 'drain' or 'revoke'")
        if not isinstance(preempt, bool):
            raise InvalidArgument("preempt", preempt, "True or False")
        return cls(
            origin=_validate.text("origin", origin),
            namespaces=None
            if names is None
            else frozenset(_segment("namespaces", _validate.text("namespaces", n)) for n in names),
            selection=fingerprint(names),
            policy=policy,
            grace=_validate.seconds("grace", grace, zero=True),
            stale_after=_validate.seconds("stale_after", stale_after),
            coalesce=_validate.seconds("coalesce", coalesce, zero=True),
            share=_validate.fraction("share", share),
            window=_validate.seconds("window", window, zero=True),
            ttl=_validate.seconds("ttl", ttl),
            timeout=_validate.seconds("timeout", timeout),
            backoff=_validate.seconds("backoff", backoff),
            limits=Limits(instances=_validate.integer("max_instances", max_instances)),
            preempt=preempt,
        )

    @property
    def exported(self) -> bytes:
        """Where the source holds what is forwarded: its own registrations, nobody's mirror."""
        return origin_prefix("reg", self.origin)

    @property
    def mirrored(self) -> bytes:
        """Where the destination holds it."""
        return origin_prefix("mir", self.origin)

    def mirror_key(self, key: bytes) -> bytes | None:
        """Where an exported key is mirrored; ``None`` when it is not forwarded."""
        rest = key[len(self.exported) :]
        parts = rest.split(b"/")
        if len(parts) != 3 or not all(parts):
            return None
        if self.namespaces is not None and parts[0] not in self.namespaces:
            return None
        return self.mirrored + rest

    def pairs(self, kvs: Iterable[KeyValue]) -> list[tuple[bytes, bytes]]:
        """Listed keys as the mirror has them."""
        return [(key, kv.value) for kv in kvs if (key := self.mirror_key(kv.key)) is not None]

    def told(self, events: Iterable[WatchEvent]) -> list[tuple[bytes, bytes | None, int]]:
        """Changed keys as the mirror has them: key, value or ``None``, revision."""
        return [
            (key, None if event.kind == "delete" else event.kv.value, event.kv.mod_revision)
            for event in events
            if (key := self.mirror_key(event.kv.key)) is not None
        ]


@attrs.define
class Journal:
    """What a forwarder has been through, over all its connections."""

    phase: Phase = "new"
    error: str = ""
    connects: int = 0
    relists: int = 0
    superseded: int = 0
    counts: Counts = attrs.field(factory=Counts)
    plan: Plan | None = None
    state: OriginState | None = None


@attrs.frozen(kw_only=True)
class Status:
    """How a forwarder stands.

    Attributes:
        origin: Whom it forwards.
        state: How that origin stands: live, stale, drained or revoked.
        phase: What the forwarder is doing: ``"claiming"`` the origin in the destination,
            ``"standby"`` behind another one, ``"connecting"`` to the source, ``"listing"`` it,
            ``"replaying"`` what may have been written before, ``"forwarding"``, ``"stopped"``.
        revision: Every change of the source up to this one is in the mirror; 0 while it is of no
            single revision, because a listing is under way or something is held back of one.
        behind: Revisions between that and the newest one heard of.
        lag: Seconds for which the oldest change has waited since nothing holds it back any more.
        silence: Seconds since the source was last certain to be as it was forwarded.
        mirrored: Instances in the mirror.
        pending: Changes still to be written, those held by coalescing and a freeze included.
        frozen: Whether a freeze of eviction is on.
        held: Deletions that it holds back.
        thaws_in: Seconds until it ends if the origin stays in reach; ``None`` without one.
        puts, deletes: Written since the start.
        unchanged: Changes that the mirror had already.
        coalesced: Changes overtaken by a later one of their key before they were written.
        refused: Changes beyond ``max_instances`` or too large; the mirror lacks them.
        connects: How often the source was connected to.
        relists: How often it was listed in full.
        superseded: How often another forwarder took over.
        error: What went wrong last, empty while all is well.
    """

    origin: str
    state: OriginState
    phase: Phase
    revision: int = 0
    behind: int = 0
    lag: float = 0.0
    silence: float = 0.0
    mirrored: int = 0
    pending: int = 0
    frozen: bool = False
    held: int = 0
    thaws_in: float | None = None
    puts: int = 0
    deletes: int = 0
    unchanged: int = 0
    coalesced: int = 0
    refused: int = 0
    connects: int = 0
    relists: int = 0
    superseded: int = 0
    error: str = ""

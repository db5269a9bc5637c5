"""How far one origin has been forwarded: what a forwarder leaves in the destination.

The token is written in the transaction that writes the data, so it is never ahead of the data nor
behind it. It says of the source's revisions: every change up to ``low`` is in the mirror, none
after ``high`` is, and one in between may be. What lies between is what coalescing or a freeze held
back while later changes went through; whoever goes on from here reads it again and compares with
the mirror before writing. A ``low`` of 0 says that the mirror is of no single revision, so only a
comparison with a full listing can go on.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Token", "fingerprint")


def fingerprint(namespaces: Iterable[str] | None) -> str:
    """Which namespaces are forwarded, in short; empty for all."""
    if namespaces is None:
        return ""
    listed = json.dumps(sorted(set(namespaces))).encode()
    return blake2b(listed, digest_size=8).hexdigest()


@attrs.frozen(kw_only=True)
class Token:
    """A place in the history of one source.

    Attributes:
        cluster: Identity of the source's data.
        epoch: What the source's epoch key held: changed by hand after a restore that kept the
            cluster's identity.
        selection: Fingerprint of the namespaces that were forwarded.
        low: Every change up to this revision is in the mirror; 0 for none.
        high: No change after this revision is in the mirror.
        writer: Who wrote it.
    """

    cluster: int
    epoch: str = ""
    selection: str = ""
    low: int = 0
    high: int = 0
    writer: str = ""

    def to_bytes(self) -> bytes:
        """What is stored. The cluster is hexadecimal: JSON's numbers end at 2**53 for many."""
        known = {**attrs.asdict(self), "cluster": f"{self.cluster:x}"}
        return json.dumps(known, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, value: bytes) -> Token | None:
        """Read what `to_bytes` wrote; ``None`` when it is not that, which asks for a listing."""
        try:
            found = json.loads(value)
            token = cls(
                cluster=int(found["cluster"], 16),
                epoch=str(found["epoch"]),
                selection=str(found["selection"]),
                low=int(found["low"]),
                high=int(found["high"]),
                writer=str(found["writer"]),
            )
        except (ValueError, TypeError, KeyError):
            return None
        return token if 0 <= token.low <= token.high else None

    def relist_reason(self, cluster: int, epoch: str, selection: str, revision: int) -> str:
        """Why the source as it is now cannot be resumed from here; empty when it can.

        Args:
            cluster: Identity of the source's data now.
            epoch: Its epoch key now.
            selection: Fingerprint of the namespaces to forward.
            revision: Its newest revision.
        """
        if cluster != self.cluster:
            return "replaced"
        if epoch != self.epoch:
            return "epoch"
        if selection != self.selection:
            return "selection"
        if self.low == 0:
            return "incomplete"
        # A revision that went back is a restored backup: what was numbered so far is void.
        return "restored" if revision < self.high else ""

"""Where things lie in a store: one place that makes keys and takes them apart.

Keys carry their origin, the name of the cluster whose services wrote them, so that each origin's
keys have one writer (and can be granted to it by prefix)::

    /hs/1/reg/<origin>/<namespace>/<service>/<instance>    written by the instance itself
    /hs/1/mir/<origin>/<namespace>/<service>/<instance>    written by the forwarder of that origin
    /hs/1/org/<origin>                                     the forwarder's heartbeat, on its lease
    /hs/1/fed/<origin>                                     the forwarder's resume token
    /hs/1/lock/<name>/<lease>                              who holds a lock, and who waits for it
    /hs/1/elect/<name>/<lease>                             who leads, and who would like to
    /hs/1/epoch                                            set anew after a backup was restored

Segments are percent-encoded, so any text may be a name and a prefix never cuts one in two.
"""

from __future__ import annotations

from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

import attrs

from hastack._core._errors import InvalidArgument

__all__ = (
    "EPOCH",
    "HEARTBEATS",
    "MIRRORED",
    "REGISTERED",
    "ROOT",
    "InstanceKey",
    "checkpoint",
    "election_prefix",
    "heartbeat",
    "lock_prefix",
    "origin_of_heartbeat",
    "origin_prefix",
    "service_prefix",
)

ROOT = b"/hs/1/"
REGISTERED = ROOT + b"reg/"
MIRRORED = ROOT + b"mir/"
HEARTBEATS = ROOT + b"org/"
CHECKPOINTS = ROOT + b"fed/"
LOCKS = ROOT + b"lock/"
ELECTIONS = ROOT + b"elect/"
EPOCH = ROOT + b"epoch"

Area: TypeAlias = Literal["reg", "mir"]


def _segment(parameter: str, text: str) -> bytes:
    if not text:
        raise InvalidArgument(parameter, text, "a name that is not empty")
    return quote(text, safe="").encode()


def _area(area: Area) -> bytes:
    return REGISTERED if area == "reg" else MIRRORED


@attrs.frozen
class InstanceKey:
    """The key of one instance, taken apart.

    Attributes:
        area: ``"reg"`` where it was registered, ``"mir"`` in the clusters it is forwarded to.
        origin: Name of the cluster it was registered in.
        namespace: Separates tenants or environments in one cluster.
        service: Name of the service.
        instance: Identity of the instance.
    """

    area: Area
    origin: str
    namespace: str
    service: str
    instance: str

    def to_bytes(self) -> bytes:
        """The key in the store."""
        return service_prefix(self.area, self.origin, self.namespace, self.service) + _segment(
            "instance", self.instance
        )

    @classmethod
    def parse(cls, key: bytes) -> InstanceKey | None:
        """Take a key apart; ``None`` when it is no instance's."""
        area: Area = "reg" if key.startswith(REGISTERED) else "mir"
        if not key.startswith(_area(area)):
            return None
        try:
            parts = [unquote(part, errors="strict") for part in key.decode("ascii").split("/")[4:]]
        except UnicodeDecodeError:
            return None
        if len(parts) != 4 or not all(parts):
            return None
        return cls(area, *parts)


def service_prefix(area: Area, origin: str, namespace: str, service: str) -> bytes:
    """Where the instances of one service of one origin lie."""
    names = (("origin", origin), ("namespace", namespace), ("service", service))
    return _area(area) + b"".join(_segment(*name) + b"/" for name in names)


def origin_prefix(area: Area, origin: str) -> bytes:
    """Where everything of one origin lies."""
    return _area(area) + _segment("origin", origin) + b"/"


def heartbeat(origin: str) -> bytes:
    """The key that says that the forwarder of ``origin`` is alive."""
    return HEARTBEATS + _segment("origin", origin)


def origin_of_heartbeat(key: bytes) -> str:
    """Whose heartbeat it is."""
    return unquote(key[len(HEARTBEATS) :].decode("ascii"))


def checkpoint(origin: str) -> bytes:
    """The key that holds how far ``origin`` has been forwarded."""
    return CHECKPOINTS + _segment("origin", origin)


def lock_prefix(name: str) -> bytes:
    """Where the queue for a lock is."""
    return LOCKS + _segment("name", name) + b"/"


def election_prefix(name: str) -> bytes:
    """Where the candidates of an election are."""
    return ELECTIONS + _segment("name", name) + b"/"

"""The cache file: the last good view of each service, to start with when the store is away.

One line of header with the format's version and a checksum, then JSON. Everything that is not
exactly that, damaged, from another version or too large, is refused with the reason; a cache never
half loads.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import attrs

from ._instance import Instance

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MAX_BYTES", "CachedService", "UnusableCache", "decode", "encode")

MAX_BYTES = 64 << 20
_MAGIC = b"hastack-discovery-cache 1 "


class UnusableCache(ValueError):
    """A cache file is not used; the message says why."""


@attrs.frozen
class CachedService:
    """The last good view of a service.

    Attributes:
        namespace: Its namespace.
        service: Its name.
        instances: What was known.
        revision: The store's revision at that time.
        at: Wall clock in seconds since 1970 when it was last certain to be current.
    """

    namespace: str
    service: str
    instances: tuple[Instance, ...]
    revision: int
    at: float


def encode(services: Iterable[CachedService], *, limit: int = MAX_BYTES) -> bytes:
    """The file's content. Services that would make it larger than ``limit`` bytes are left out.

    The most recently current ones are kept.
    """
    rows: list[str] = []
    room = limit - 256
    for each in sorted(services, key=lambda s: (-s.at, s.namespace, s.service)):
        row = json.dumps(
            {
                "namespace": each.namespace,
                "service": each.service,
                "revision": each.revision,
                "at": each.at,
                "instances": [_plain(instance) for instance in each.instances],
            },
            separators=(",", ":"),
        )
        if len(row) + 1 <= room:
            room -= len(row) + 1
            rows.append(row)
    body = f"[{','.join(rows)}]\n".encode()
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(content: bytes) -> list[CachedService]:
    """Read what `encode` wrote.

    Raises:
        UnusableCache: It is damaged, or of another version.
    """
    header, _, body = content.partition(b"\n")
    if not header.startswith(_MAGIC):
        raise UnusableCache("it is no discovery cache of this version")
    if header[len(_MAGIC) :] != hashlib.sha256(body).hexdigest().encode():
        raise UnusableCache("its checksum does not fit: it is damaged")
    try:
        return [_service(row) for row in json.loads(body)]
    except Exception as error:
        raise UnusableCache(f"it holds what is no service: {error}") from error


def _plain(instance: Instance) -> list[str]:
    return [instance.id, instance.origin, instance.to_bytes().decode()]


def _service(row: dict[str, Any]) -> CachedService:
    return CachedService(
        namespace=row["namespace"],
        service=row["service"],
        revision=int(row["revision"]),
        at=float(row["at"]),
        instances=tuple(
            Instance.parse(
                value.encode(),
                service=row["service"],
                id=key,
                namespace=row["namespace"],
                origin=origin,
            )
            for key, origin, value in row["instances"]
        ),
    )

"""Records of one signal under the resource and the scope that they came from.

The three signals share this outline (opentelemetry-proto, `*_service.proto`, `resource.proto`):

    request   { 1: resources* }
    resources { 1: resource, 2: scopes*, 3: schema_url }
    scopes    { 1: scope, 2: record*, 3: schema_url }
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._otlp_attributes import Attributes
from ._otlp_lenient import read, string
from ._protobuf import delimited, varint

if TYPE_CHECKING:
    from ._otlp_values import Tally

KEPT: Final = 256
"""Resources and scopes whose fragments are kept; a process has a handful."""

_LENGTH: Final = 1 + 10  # bytes at most, for the key and the length of a group


class ResourceGroup:
    """Scopes of one resource."""

    __slots__ = ("head", "scopes", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail
        self.scopes: dict[tuple[bytes, bytes], ScopeGroup] = {}


class ScopeGroup:
    """Records of one scope, as whole fields in ``parts``."""

    __slots__ = ("head", "parts", "tail", "under")

    def __init__(self, head: bytes, tail: bytes, under: ResourceGroup) -> None:
        self.head = head
        self.tail = tail
        self.under = under
        self.parts: list[bytes] = []

    def outline(self) -> int:
        """Bytes that the first record adds beside itself, at most."""
        size = _LENGTH + len(self.head) + len(self.tail)
        if not any(scope.parts for scope in self.under.scopes.values()):
            size += _LENGTH + len(self.under.head) + len(self.under.tail)
        return size

    def alone(self, size: int) -> int:
        """The length of a body with one record field of ``size`` bytes and nothing else."""
        under = self.under
        size += len(self.head) + len(self.tail)
        size += 1 + len(varint(size)) + len(under.head) + len(under.tail)
        return 1 + len(varint(size)) + size


class Outlines:
    """Encoded resources and scopes, by the objects that they were made from."""

    __slots__ = ("_attributes", "_kept", "_scope_attributes")

    def __init__(self) -> None:
        self._attributes = Attributes(b"\x0a")
        self._scope_attributes = Attributes(b"\x1a")
        # The object is kept too: while it lives nothing else has its id.
        self._kept: dict[int, tuple[Any, bytes, bytes]] = {}

    def resource(self, resource: Any, tally: Tally) -> tuple[bytes, bytes]:
        """The fields ``resource`` and ``schema_url`` of a resource group."""
        kept = self._kept.get(id(resource))
        if kept is not None:
            return kept[1], kept[2]
        parts: list[bytes] = []
        attributes = read(resource, "attributes", tally)
        repaired = tally.repaired
        self._attributes.encode_any(attributes, parts, tally)
        head = delimited(b"\x0a", b"".join(parts))
        tail = string(b"\x1a", read(resource, "schema_url", tally), tally)
        if tally.repaired == repaired and keepable(resource):
            self._keep(resource, head, tail)
        return head, tail

    def scope(self, scope: Any, tally: Tally) -> tuple[bytes, bytes]:
        """The fields ``scope`` and ``schema_url`` of a scope group."""
        kept = self._kept.get(id(scope))
        if kept is not None:
            return kept[1], kept[2]
        repaired = tally.repaired
        parts = [
            string(b"\x0a", read(scope, "name", tally), tally),
            string(b"\x12", read(scope, "version", tally), tally),
        ]
        attributes = read(scope, "attributes", tally)
        self._scope_attributes.encode_any(attributes, parts, tally)
        head = delimited(b"\x0a", b"".join(parts))
        tail = string(b"\x1a", read(scope, "schema_url", tally), tally)
        if tally.repaired == repaired and keepable(scope):
            self._keep(scope, head, tail)
        return head, tail

    def _keep(self, item: object, head: bytes, tail: bytes) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[id(item)] = (item, head, tail)


class Request:
    """One request body in the making."""

    __slots__ = ("_alive", "_by_ids", "_groups", "_outlines", "_tally")

    def __init__(self, outlines: Outlines, tally: Tally) -> None:
        self._outlines = outlines
        self._tally = tally
        self._groups: dict[tuple[bytes, bytes], ResourceGroup] = {}
        self._by_ids: dict[tuple[int, int], ScopeGroup] = {}
        self._alive: list[object] = []  # so that no other object gets their ids

    def group(self, resource: Any, scope: Any) -> ScopeGroup:
        """Where records of ``scope`` go; objects with equal fields share one group."""
        ids = (id(resource), id(scope))
        found = self._by_ids.get(ids)
        if found is not None:
            return found
        ends = self._outlines.resource(resource, self._tally)
        under = self._groups.get(ends)
        if under is None:
            under = self._groups[ends] = ResourceGroup(*ends)
        ends = self._outlines.scope(scope, self._tally)
        found = under.scopes.get(ends)
        if found is None:
            found = under.scopes[ends] = ScopeGroup(*ends, under)
        self._by_ids[ids] = found
        self._alive += (resource, scope)
        return found

    def write(self, out: bytearray) -> int:
        """Append the body to ``out`` and say how long it is."""
        before = len(out)
        for under in self._groups.values():
            scopes = [scope for scope in under.scopes.values() if scope.parts]
            if not scopes:
                continue
            sizes = [len(each.head) + sum(map(len, each.parts)) + len(each.tail) for each in scopes]
            inner = sum([1 + len(varint(size)) + size for size in sizes])
            out += b"\x0a"
            out += varint(len(under.head) + inner + len(under.tail))
            out += under.head
            for scope, size in zip(scopes, sizes, strict=True):
                out += b"\x12"
                out += varint(size)
                out += scope.head
                out += b"".join(scope.parts)
                out += scope.tail
            out += under.tail
        return len(out) - before


def keepable(carrier: Any) -> bool:
    """Whether the SDK promises that a resource or a scope does not change; ``None`` does not."""
    try:
        return carrier is None or carrier.attributes._immutable is True
    except Exception:
        return False

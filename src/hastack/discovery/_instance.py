"""One instance of a service: what is registered, watched, balanced over and forwarded."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Instance", "MalformedInstance")


class MalformedInstance(ValueError):
    """Stored bytes are no instance; the message says what is wrong with them."""


def _metadata(value: Mapping[str, str]) -> Mapping[str, str]:
    try:
        known = dict(value)
    except (TypeError, ValueError):
        raise InvalidArgument("metadata", value, "a mapping of str to str") from None
    if not all(isinstance(part, str) for pair in known.items() for part in pair):
        raise InvalidArgument("metadata", value, "a mapping of str to str")
    return MappingProxyType(known)


def _weight(value: float) -> float:
    return _validate.number("weight", value, "a finite number >= 0", valid=_is_weight)


def _is_weight(value: float) -> bool:
    return value >= 0.0


def _named(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    _validate.text(attribute.name, value)


def _text(instance: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(attribute.name, value, "a string")


@attrs.frozen(kw_only=True)
class Instance:
    """One instance of a service; frozen, hashable, and can be pickled.

    Attributes:
        service: Name of the service.
        id: Identity of the instance, unique within its service across all clusters.
        address: Where it listens, ``"host:port"`` or any form its clients understand.
        namespace: Separates tenants or environments.
        metadata: Whatever its clients want to know; text to text.
        weight: Share of traffic relative to its peers, >= 0; 0 takes none.
        zone: Failure domain, for locality; empty when unknown.
        draining: It still serves what it has, and wants nothing new.
        origin: Name of the cluster it is registered in; empty in a store without federation.
        home: The cluster that wins when several claim this id; empty for none.
        incarnation: Hybrid logical clock of this registration: a later life is larger.

    Raises:
        InvalidArgument: A name or the address is empty, the weight negative or not finite, or
            metadata no mapping of text to text.

    Example:
        >>> from hastack.discovery import Instance
        >>> one = Instance(service="orders", id="a", address="10.0.0.7:8080", zone="eu-1")
        >>> one.to_bytes()
        b'{"address":"10.0.0.7:8080","zone":"eu-1"}'
    """

    service: str = attrs.field(validator=_named)
    id: str = attrs.field(validator=_named)
    address: str = attrs.field(validator=_named)
    namespace: str = attrs.field(default="default", validator=_named)
    metadata: Mapping[str, str] = attrs.field(factory=dict, converter=_metadata, hash=False)
    weight: float = attrs.field(default=1.0, converter=_weight)
    zone: str = attrs.field(default="", validator=_text)
    draining: bool = False
    origin: str = attrs.field(default="", validator=_text)
    home: str = attrs.field(default="", validator=_text)
    incarnation: int = 0

    def __reduce__(self) -> tuple[object, ...]:
        values = {field.name: getattr(self, field.name) for field in attrs.fields(Instance)}
        return (_rebuild, ({**values, "metadata": dict(self.metadata)},))

    def to_bytes(self) -> bytes:
        """What is stored under the instance's key; keys and defaults that say nothing are left out.

        Service, id, namespace and origin are the key's.
        """
        known: dict[str, Any] = {"address": self.address}
        if self.metadata:
            known["metadata"] = dict(sorted(self.metadata.items()))
        for name, default in _OPTIONAL.items():
            value = getattr(self, name)
            if value != default:
                known[name] = value
        return json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def parse(
        cls,
        value: bytes,
        *,
        service: str,
        id: str,  # noqa: A002  # the field's name
        namespace: str,
        origin: str,
    ) -> Instance:
        """Read what `to_bytes` wrote. Unknown members are passed over: a later version's.

        Raises:
            MalformedInstance: It is not that.
        """
        try:
            found = json.loads(value)
            if not isinstance(found, dict) or "address" not in found:
                raise MalformedInstance("not an object with an address")
            known = {
                name: found[name] for name in ("address", "metadata", *_OPTIONAL) if name in found
            }
            for name, kind in _KINDS.items():
                if name in known and (
                    not isinstance(known[name], kind)
                    or isinstance(known[name], bool) != (kind is bool)
                ):
                    raise MalformedInstance(f"{name} is {known[name]!r}")
            return cls(service=service, id=id, namespace=namespace, origin=origin, **known)
        except MalformedInstance:
            raise
        except Exception as error:
            raise MalformedInstance(str(error)) from error


def _rebuild(values: dict[str, Any]) -> Instance:
    return Instance(**values)


_OPTIONAL: dict[str, Any] = {
    "weight": 1.0,
    "zone": "",
    "draining": False,
    "home": "",
    "incarnation": 0,
}
_KINDS: dict[str, Any] = {
    "address": str,
    "metadata": dict,
    "weight": (int, float),
    "zone": str,
    "draining": bool,
    "home": str,
    "incarnation": int,
}

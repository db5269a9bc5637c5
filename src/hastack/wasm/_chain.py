"""A log that shows when it was changed: each line holds the hash of the one before."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from hastack._core._errors import AuditBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._keys import PrivateKey, PublicKey

__all__ = ("Chain", "Checked", "check")

START: Final = "0" * 64
_LINE: Final = b"hastack audit line 1\0"
_HEAD: Final = b"hastack audit head 1\0"


@attrs.frozen
class Checked:
    """A log that holds.

    Attributes:
        lines: How many lines.
        signed: Up to which line a signed head covers it; 0 for none.
        head: Hash of the last line.
    """

    lines: int
    signed: int
    head: str


class Chain:
    """Makes lines, each bound to all before it.

    Args:
        number: Number of the last line that there is.
        head: Its hash.
    """

    def __init__(self, number: int = 0, head: str = START) -> None:
        self.number = number
        self.head = head

    def line(self, fields: Mapping[str, Any]) -> bytes:
        """The next line, with its end."""
        body = {**fields, "n": self.number + 1, "previous": self.head}
        digest = _hash(body)
        self.number += 1
        self.head = digest
        return _json({**body, "hash": digest}) + b"\n"

    def sign(self, key: PrivateKey) -> bytes:
        """A line that signs all before it."""
        signature = key.sign(_HEAD + bytes.fromhex(self.head)).hex()
        return self.line({"event": "Head", "key": key.public.id, "signature": signature})


def check(lines: Iterable[bytes], keys: Mapping[str, PublicKey] | None = None) -> Checked:
    """Read a log to its end.

    Args:
        lines: Its lines.
        keys: Whose heads count, by id; without any, heads are not looked at.

    Raises:
        AuditBroken: At the first line that is not what was written.
    """
    chain = Chain()
    signed = number = 0
    for number, raw in enumerate(lines, 1):
        try:
            fields = json.loads(raw)
            digest = fields.pop("hash")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise AuditBroken(number, "no line of an audit log") from None
        if fields.get("n") != number or fields.get("previous") != chain.head:
            raise AuditBroken(number, "does not follow the line before it")
        if digest != _hash(fields) or _json({**fields, "hash": digest}) + b"\n" != raw:
            raise AuditBroken(number, "was changed")
        if fields.get("event") == "Head" and keys is not None:
            _check_head(number, fields, keys, chain.head)
            signed = number
        chain = Chain(number, digest)
    return Checked(number, signed, chain.head)


def _check_head(
    number: int, fields: Mapping[str, Any], keys: Mapping[str, PublicKey], head: str
) -> None:
    key = keys.get(str(fields.get("key")))
    try:
        signature = bytes.fromhex(str(fields.get("signature")))
    except ValueError:
        signature = b""
    if key is None or not key.verifies(signature, _HEAD + bytes.fromhex(head)):
        raise AuditBroken(number, "a head that nobody signed whose signature counts")


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_LINE + _json(body)).hexdigest()


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

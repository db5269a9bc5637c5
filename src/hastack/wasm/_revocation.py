"""Lists of what no longer counts, signed, each newer than the one before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument, NotTrusted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._keys import PrivateKey, PublicKey

__all__ = ("Revocations", "read", "revoke")

_DOMAIN: Final = b"hastack wasm revocations 1\0"
_MOST: Final = 4 << 20
"""Bytes of a list, at most."""


@attrs.frozen(kw_only=True)
class Revocations:
    """A list that was signed by somebody whose word counts.

    Attributes:
        serial: Its number; lists with lower ones are older.
        revoked: Ids of keys, and digests of modules.
        expires: Seconds since 1970 from which on it is too old to be believed; ``None`` for never.
    """

    serial: int
    revoked: frozenset[str]
    expires: float | None = None


def revoke(
    revoked: Iterable[str], key: PrivateKey, *, serial: int, expires: float | None = None
) -> bytes:
    """Make a signed list of what no longer counts; a whole one, not what is new in it.

    Args:
        revoked: Ids of keys and digests of modules.
        key: Who signs.
        serial: Higher than that of the list before.
        expires: Seconds since 1970 from which on nothing is trusted until there is a newer list:
            whoever holds lists back gains no more than that.

    Raises:
        InvalidArgument: The serial is not above zero, or an entry is no id and no digest.

    Example:
        >>> from hastack import wasm
        >>> ada, chief = wasm.PrivateKey.generate(), wasm.PrivateKey.generate()
        >>> trust = wasm.Trust([wasm.Signer(ada.public, "ada")], revokers=[chief.public])
        >>> trust.revoke(wasm.revoke([ada.public.id], chief, serial=1)).serial
        1
    """
    _validate.integer("serial", serial)
    entries = sorted(set(revoked))
    for each in entries:
        if len(each) not in {32, 64} or set(each) - set("0123456789abcdef"):
            raise InvalidArgument("revoked", each, "the id of a key, or the digest of a module")
    body = {"expires": expires, "key": key.public.id, "revoked": entries, "serial": serial}
    return _json({**body, "signature": key.sign(_DOMAIN + _json(body)).hex()}) + b"\n"


def read(data: bytes, keys: Iterable[PublicKey]) -> Revocations:
    """A list whose signature is good.

    Raises:
        NotTrusted: It is none, or nobody signed it whose word counts.
    """
    try:
        if len(data) > _MOST:
            raise ValueError("too large")
        fields = json.loads(data)
        signature = bytes.fromhex(fields.pop("signature"))
        signer = next((key for key in keys if key.id == fields["key"]), None)
        listed = Revocations(
            serial=fields["serial"],
            revoked=frozenset(fields["revoked"]),
            expires=fields["expires"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotTrusted(f"no list of revocations: {error}") from None
    if signer is None or not signer.verifies(signature, _DOMAIN + _json(fields)):
        raise NotTrusted("list of revocations is signed by nobody whose word counts")
    return listed


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

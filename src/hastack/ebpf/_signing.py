"""Signatures over an object and its manifest: Ed25519, or ECDSA over P-384 with SHA-384.

What is signed is a line that names this format, and the SHA-512 of the object and of the manifest: a
signature for one object, or for one manifest, is good for no other. The signature travels beside
the object as a small JSON file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import attrs

from hastack._core._errors import InvalidArgument, SignatureInvalid
from hastack._core._extras import require

from ._policy import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Strict", "sign")

_FORMAT = "hastack-ebpf-signature-v1"
_LARGEST = 1 << 20  # bytes of a signature file
# What a manifest may say; each is a field of `Policy`.
_MANIFEST = ("kernel_memory", "helpers", "kfuncs", "types", "tail_calls")


@attrs.frozen(kw_only=True)
class Strict:
    """Loading that refuses what nobody has signed, and what its policy forbids.

    Args:
        keys: Public keys in PEM, of which one must have signed.
        allow_unsigned: Whether objects without a signature are loaded; what they may do is
            ``policy`` alone.
        policy: What programs may call. What a signed manifest allows comes on top.

    Example:
        >>> from hastack import ebpf
        >>> ebpf.Strict(allow_unsigned=True).policy.tail_calls
        False
    """

    keys: tuple[bytes, ...] = attrs.field(default=(), converter=tuple)
    allow_unsigned: bool = False
    policy: Policy = attrs.field(factory=Policy)

    def check(self, content: bytes, signature: bytes | None) -> Policy:
        """The policy that holds for an object.

        Raises:
            SignatureInvalid: It is not signed, or not by one of the keys.
        """
        if signature is None:
            if not self.allow_unsigned:
                raise SignatureInvalid("the object is not signed, and strict loading asks for that")
            return self.policy
        manifest = verify(content, signature, self.keys)
        return attrs.evolve(
            self.policy,
            kernel_memory=self.policy.kernel_memory or manifest.get("kernel_memory", False),
            helpers=(*self.policy.helpers, *manifest.get("helpers", ())),
            kfuncs=(*self.policy.kfuncs, *manifest.get("kfuncs", ())),
            types=manifest.get("types", self.policy.types),
            tail_calls=self.policy.tail_calls or manifest.get("tail_calls", False),
        )


def _message(content: bytes, manifest: bytes) -> bytes:
    parts = (hashlib.sha512(each).hexdigest() for each in (content, manifest))
    return "\n".join((_FORMAT, *parts)).encode()


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def sign(content: bytes, key: bytes, *, manifest: Mapping[str, Any] | None = None) -> bytes:
    """Sign an object; the content of the file to put beside it.

    Args:
        content: The object file.
        key: A private key in PEM without a password: Ed25519, or P-384.
        manifest: What the object may do beyond the policy of who loads it: ``kernel_memory``,
            ``helpers``, ``kfuncs``, ``types``, ``tail_calls``, as in `Policy`.

    Raises:
        InvalidArgument: The key is of another kind, or the manifest says something unknown.
    """
    given = dict(manifest or {})
    _check_manifest(given, "manifest")
    serialization = require("cryptography.hazmat.primitives.serialization", extra="ebpf")
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise InvalidArgument("key", "...", "a private key in PEM without a password") from None
    message = _message(content, _canonical(given))
    kind = _kind(private.public_key())
    signature = private.sign(message) if kind == "ed25519" else private.sign(message, _ecdsa())
    return json.dumps(
        {
            "format": _FORMAT,
            "algorithm": kind,
            "manifest": given,
            "signature": base64.b64encode(signature).decode(),
        },
        indent=1,
    ).encode()


def verify(content: bytes, signature: bytes, keys: Sequence[bytes]) -> dict[str, Any]:
    """The manifest of an object, once one of the keys is known to have signed both.

    Raises:
        SignatureInvalid: None has, or the signature file is broken.
    """
    if len(signature) > _LARGEST:
        raise SignatureInvalid("the signature file is too large")
    try:
        held = json.loads(signature)
        manifest, value = held["manifest"], base64.b64decode(held["signature"], validate=True)
        good = held["format"] == _FORMAT and isinstance(manifest, dict)
    except (ValueError, KeyError, TypeError, RecursionError):
        good, manifest, value = False, {}, b""
    if not good:
        raise SignatureInvalid("the signature file is broken")
    message = _message(content, _canonical(manifest))
    if not any(_signed(key, value, message) for key in keys):
        raise SignatureInvalid("no trusted key has signed this object with this manifest")
    try:
        _check_manifest(manifest, "manifest")
    except InvalidArgument as error:
        raise SignatureInvalid(f"the manifest is broken: {error}") from None
    return dict(manifest)


def _signed(key: bytes, value: bytes, message: bytes) -> bool:
    serialization = require("cryptography.hazmat.primitives.serialization", extra="ebpf")
    invalid = require("cryptography.exceptions", extra="ebpf").InvalidSignature
    try:
        public = serialization.load_pem_public_key(key)
    except (ValueError, TypeError):
        raise InvalidArgument("keys", "...", "public keys in PEM") from None
    try:
        if _kind(public) == "ed25519":
            public.verify(value, message)
        else:
            public.verify(value, message, _ecdsa())
    except invalid:
        return False
    return True


def _kind(public: Any) -> str:
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="ebpf")
    curves = require("cryptography.hazmat.primitives.asymmetric.ec", extra="ebpf")
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(public, curves.EllipticCurvePublicKey) and public.curve.name == "secp384r1":
        return "ecdsa-p384-sha384"
    raise InvalidArgument("key", type(public).__name__, "an Ed25519 or P-384 key")


def _ecdsa() -> Any:
    curves = require("cryptography.hazmat.primitives.asymmetric.ec", extra="ebpf")
    hashes = require("cryptography.hazmat.primitives.hashes", extra="ebpf")
    return curves.ECDSA(hashes.SHA384())


def _check_manifest(manifest: Mapping[str, Any], parameter: str) -> None:
    for name, value in manifest.items():
        if name not in _MANIFEST:
            raise InvalidArgument(f"{parameter}.{name}", value, f"one of {', '.join(_MANIFEST)}")
        flag = name in {"kernel_memory", "tail_calls"}
        texts = isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
        if not (isinstance(value, bool) if flag else texts):
            raise InvalidArgument(
                f"{parameter}.{name}", value, "true or false" if flag else "a list of names"
            )

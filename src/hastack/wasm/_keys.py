"""Keys that sign modules: Ed25519, and ECDSA on P-384.

Serialised as the tool conventions have it: a byte for the algorithm, then the key. A key belongs to
one algorithm for good: what a signature says about its algorithm is compared, not believed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, final

from hastack._core._errors import InvalidArgument
from hastack._core._extras import require

from . import _ed25519

__all__ = ("PrivateKey", "PublicKey")

ED25519: Final = 0x01
P384: Final = 0x03
"""Not in the tool conventions, which allow for more algorithms."""

_NAMES: Final = {ED25519: "ed25519", P384: "p384"}
_P384_HALF: Final = (
    int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
        "581a0db248b0a77aecec196accc52973",
        16,
    )
    >> 1
)


def _forms() -> Any:
    return require("cryptography.hazmat.primitives.serialization", extra="wasm")


def _ec() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ec", extra="wasm")


def _ed() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="wasm")


def _ecdsa() -> Any:
    hashes = require("cryptography.hazmat.primitives.hashes", extra="wasm")
    return _ec().ECDSA(hashes.SHA384())


def _utils() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.utils", extra="wasm")


@final
class PublicKey:
    """A key that verifies.

    Args:
        serialized: The algorithm's byte and the key: 33 bytes of Ed25519, 50 of P-384.

    Attributes:
        algorithm: ``"ed25519"`` or ``"p384"``.
        id: Hash of the key, in hexadecimal; signatures name their key by it.

    Raises:
        InvalidArgument: It is no such key, or a weak one.

    Example:
        >>> from hastack import wasm
        >>> key = wasm.PrivateKey.generate().public
        >>> wasm.PublicKey.from_pem(key.to_pem()) == key
        True
    """

    __slots__ = ("_key", "algorithm", "id", "number", "serialized")

    def __init__(self, serialized: bytes) -> None:
        accepted = "a public key of Ed25519 or P-384"
        given: object = serialized
        if not isinstance(given, bytes) or not given:
            raise InvalidArgument("key", serialized, accepted)
        self.number = serialized[0]
        raw = serialized[1:]
        if self.number == ED25519:
            weak = _ed25519.weakness(raw)
            if weak:
                raise InvalidArgument("key", raw.hex(), f"{accepted}; it is {weak}")
            self._key: Any = _ed().Ed25519PublicKey.from_public_bytes(raw)
        elif self.number == P384 and len(raw) == 49:
            try:
                ec = _ec()
                self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), raw)
            except ValueError:
                raise InvalidArgument("key", raw.hex(), accepted) from None
        else:
            raise InvalidArgument("key", serialized, accepted)
        self.serialized = serialized
        self.algorithm = _NAMES[self.number]
        self.id = hashlib.sha256(b"hastack key\0" + serialized).hexdigest()[:32]

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """A key out of its PEM form, ``BEGIN PUBLIC KEY``.

        Raises:
            InvalidArgument: It is none of Ed25519 or P-384.
        """
        try:
            return cls(_serialized(_forms().load_pem_public_key(pem)))
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidArgument):
                raise
            raise InvalidArgument("pem", pem[:40], "a public key in PEM") from None

    def to_pem(self) -> bytes:
        """Its PEM form."""
        forms = _forms()
        pem: bytes = self._key.public_bytes(
            forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
        )
        return pem

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is this key's for ``message``."""
        invalid = require("cryptography.exceptions", extra="wasm").InvalidSignature
        try:
            if self.number == ED25519:
                self._key.verify(signature, message)
            else:
                self._key.verify(_der(signature), message, _ecdsa())
        except (invalid, ValueError):
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and hmac.compare_digest(
            self.serialized, other.serialized
        )

    def __hash__(self) -> int:
        return hash(self.serialized)

    def __repr__(self) -> str:
        return f"<PublicKey {self.algorithm} {self.id}>"


@final
class PrivateKey:
    """A key that signs. Made by `generate` or `from_pem`; never shown.

    Attributes:
        public: The key that verifies what this one signs.
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public = PublicKey(_serialized(key.public_key()))

    @classmethod
    def generate(cls, algorithm: str = "ed25519") -> PrivateKey:
        """A new key.

        Args:
            algorithm: ``"ed25519"`` or ``"p384"``.

        Raises:
            InvalidArgument: It is another one.
        """
        if algorithm == "ed25519":
            return cls(_ed().Ed25519PrivateKey.generate())
        if algorithm == "p384":
            return cls(_ec().generate_private_key(_ec().SECP384R1()))
        raise InvalidArgument("algorithm", algorithm, '"ed25519" or "p384"')

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> PrivateKey:
        """A key out of its PEM form.

        Raises:
            InvalidArgument: It is no private key of Ed25519 or P-384, or the password is wrong.
        """
        try:
            return cls(_forms().load_pem_private_key(pem, password))
        except (ValueError, TypeError, AttributeError) as error:
            if isinstance(error, InvalidArgument):
                raise
            raise InvalidArgument("pem", "(hidden)", "a private key and its password") from None

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Its PEM form (PKCS 8), encrypted when there is a password."""
        forms = _forms()
        cipher = forms.BestAvailableEncryption(password) if password else forms.NoEncryption()
        pem: bytes = self._key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, cipher)
        return pem

    def sign(self, message: bytes) -> bytes:
        """Its signature of ``message``: 64 bytes of Ed25519, 96 of P-384."""
        if self.public.number == ED25519:
            signature: bytes = self._key.sign(message)
            return signature
        r, s = _utils().decode_dss_signature(self._key.sign(message, _ecdsa()))
        if s > _P384_HALF:  # the one of two valid forms
            s = 2 * _P384_HALF + 1 - s
        return bytes(r.to_bytes(48, "big") + s.to_bytes(48, "big"))

    def __repr__(self) -> str:
        return f"<PrivateKey for {self.public.id}>"


def _serialized(key: Any) -> bytes:
    forms = _forms()
    if isinstance(key, _ed().Ed25519PublicKey):
        raw: bytes = key.public_bytes(forms.Encoding.Raw, forms.PublicFormat.Raw)
        return bytes([ED25519]) + raw
    if isinstance(key, _ec().EllipticCurvePublicKey) and key.curve.name == "secp384r1":
        point = key.public_bytes(forms.Encoding.X962, forms.PublicFormat.CompressedPoint)
        return bytes([P384]) + bytes(point)
    raise InvalidArgument("key", type(key).__name__, "a key of Ed25519 or P-384")


def _der(signature: bytes) -> bytes:
    """DER of two numbers of 48 bytes; of two valid forms only the one with the smaller second."""
    if len(signature) != 96:
        raise ValueError("not 96 bytes")
    r, s = (int.from_bytes(part, "big") for part in (signature[:48], signature[48:]))
    if s > _P384_HALF:
        raise ValueError("not in its one canonical form")
    der: bytes = _utils().encode_dss_signature(r, s)
    return der

"""Signatures in and beside modules, in the format of the tool conventions.

https://github.com/WebAssembly/tool-conventions/blob/main/Signatures.md, as of December 2025: what is
signed begins with ``wasmsig``. Signatures of the form before that are refused, and so is whatever
the format leaves open: a second signature section, one that is not the first, numbers longer than
they need be, a partial signature, bytes behind the end.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

from hastack._core._errors import InvalidModule, NotTrusted

from ._reader import MAGIC, Reader, sections

__all__ = ("Signature", "Signed", "attach", "detach", "encode", "message", "parse", "split")

SECTION: Final = "signature"
DELIMITER: Final = "signature_delimiter"
PREFIX: Final = b"\x01\x01\x01"
"""Version of the format, content a module, hash SHA-256."""

MOST: Final = 64
"""Signatures of one module at most."""


@attrs.frozen
class Signature:
    """One signature: who may have made it, how, and its bytes."""

    key_id: bytes
    algorithm: int
    value: bytes


@attrs.frozen
class Signed:
    """Hashes, and the signatures of them."""

    hashes: bytes
    signatures: tuple[Signature, ...]


def message(hashes: bytes) -> bytes:
    """The bytes that are signed for these hashes."""
    return b"wasmsig" + PREFIX + hashes


def split(module: bytes) -> tuple[bytes | None, bytes]:
    """The signature data inside a module, or ``None``; and what a signature must cover.

    Raises:
        InvalidModule: It is no module.
        NotTrusted: It has signature sections where none may be.
    """
    found = sections(module)
    places = [index for index, one in enumerate(found) if one.id == 0 and one.name == SECTION]
    if not places:
        return None, module[8:]
    if places != [0]:
        raise NotTrusted("a signature section that is not the first and only one")
    first = found[0]
    if not first.canonical:
        raise NotTrusted("a signature section with numbers that are longer than they need be")
    return module[first.payload : first.end], module[first.end :]


def hashes(content: bytes) -> bytes:
    """The hashes that a signature of a whole module covers, one behind each delimiter.

    Args:
        content: All sections but the signature.

    Raises:
        NotTrusted: It has delimiters, and something behind the last.
    """
    whole = MAGIC + content
    ends = [one.end for one in sections(whole) if one.id == 0 and one.name == DELIMITER]
    if not ends:
        return hashlib.sha256(content).digest()
    if ends[-1] != len(whole):
        raise NotTrusted("sections behind the last delimiter, which no signature covers")
    rolling, at, out = hashlib.sha256(), 8, b""
    for end in ends:
        rolling.update(whole[at:end])
        out += rolling.copy().digest()
        at = end
    return out


def parse(data: bytes) -> tuple[Signed, ...]:
    """What is in signature data.

    Raises:
        NotTrusted: It is broken, or of another version.
    """
    try:
        return _parse(data)
    except InvalidModule as error:
        raise NotTrusted(f"signature data: {error}") from None


def _parse(data: bytes) -> tuple[Signed, ...]:
    if data[:3] != PREFIX:
        raise NotTrusted("signature data of another version, content or hash")
    reader = Reader(data, 3, len(data))
    found = []
    count = 0
    for _ in range(reader.count()):
        digests = reader.take(reader.number() * 32)
        signatures = []
        for _ in range(reader.count()):
            key_id = reader.take(reader.number())
            algorithm = reader.byte()
            signatures.append(Signature(key_id, algorithm, reader.take(reader.number())))
        count += len(signatures)
        if count > MOST:
            raise NotTrusted(f"more than {MOST} signatures")
        found.append(Signed(digests, tuple(signatures)))
    reader.finish()
    if not reader.canonical:
        raise NotTrusted("signature data with numbers that are longer than they need be")
    return tuple(found)


def encode(signed: tuple[Signed, ...]) -> bytes:
    """Signature data of signatures; what `parse` reads."""
    out = PREFIX + leb(len(signed))
    for one in signed:
        out += leb(len(one.hashes) // 32) + one.hashes + leb(len(one.signatures))
        for signature in one.signatures:
            out += leb(len(signature.key_id)) + signature.key_id
            out += bytes([signature.algorithm]) + leb(len(signature.value)) + signature.value
    return out


def attach(data: bytes, module: bytes) -> bytes:
    """A module with this signature data inside, in place of what was there."""
    _, content = split(module)
    return MAGIC + custom(SECTION, data) + content


def detach(module: bytes) -> tuple[bytes | None, bytes]:
    """The signature data of a module, and the module without it."""
    data, content = split(module)
    return data, MAGIC + content


def custom(name: str, payload: bytes) -> bytes:
    """A custom section."""
    raw = name.encode()
    body = leb(len(raw)) + raw + payload
    return b"\0" + leb(len(body)) + body


def leb(number: int) -> bytes:
    """The shortest LEB128 form of an unsigned number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])

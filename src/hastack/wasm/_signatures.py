"""Types of guest functions as people write them, and what they are on the wire.

A signature is ``"(kind, ...) -> kind"``. Kinds are those of WebAssembly, ``i32 i64 f32 f64``, and
four more that stand for places in guest memory: ``bytes`` and ``str`` are a pointer and a length,
``cbytes`` and ``cstr`` a pointer to bytes that end with a zero.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final

import attrs

from hastack._core._errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Signature", "bind", "parse", "raw_layout")

PLAIN: Final = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
WIDE: Final = {"bytes": ("i32", "i32"), "str": ("i32", "i32")}
ENDED: Final = {"cbytes": ("i32",), "cstr": ("i32",)}
# A result that is a pointer and a length comes as two values, or as one number that holds both.
PACKED: Final = {("i64",), ("i32", "i32")}
_FORM = re.compile(r"\(\s*([\w\s,]*)\)\s*(?:->\s*(\(?[\w\s,]*\)?))?\s*")
_PAD: Final = {"i": "12x", "f": "12x", "q": "8x", "d": "8x"}


@attrs.frozen
class Signature:
    """What a caller gives and gets, and the core types that this means.

    Attributes:
        parameters: A kind for each argument.
        results: A kind for each result.
        core_parameters: The core type of each value that goes in.
        core_results: The core type of each value that comes out.
    """

    parameters: tuple[str, ...]
    results: tuple[str, ...]
    core_parameters: tuple[str, ...]
    core_results: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether only numbers go in and come out."""
        return not any(k not in PLAIN for k in (*self.parameters, *self.results))

    def __str__(self) -> str:
        out = self.results[0] if len(self.results) == 1 else f"({', '.join(self.results)})"
        return f"({', '.join(self.parameters)}) -> {out}"


def parse(text: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds of parameters and results of a written signature.

    Raises:
        InvalidArgument: It is not one, or names an unknown kind.
    """
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise InvalidArgument("signature", text, 'the form "(i32, bytes) -> i32"')
    sides = []
    for part in (found[1], (found[2] or "").strip("() ")):
        kinds = tuple(word.strip() for word in part.split(",")) if part.strip() else ()
        for kind in kinds:
            if kind not in PLAIN and kind not in WIDE and kind not in ENDED:
                known = ", ".join((*PLAIN, *WIDE, *ENDED))
                raise InvalidArgument("signature", text, f"kinds out of {known}; not {kind!r}")
        sides.append(kinds)
    return sides[0], sides[1]


def bind(name: str, declared: str | None, core: str) -> Signature:
    """Check what was declared against the type that the module has.

    Args:
        name: Name of the function, for the error.
        declared: As written by the user; ``None`` for the core type as it is.
        core: Type in the module, ``"(i32, i32) -> i32"``.

    Raises:
        InvalidArgument: They do not fit, or the core type has values that no Python value is.
    """
    if any(word not in PLAIN for word in re.findall(r"\w+", core)):
        raise InvalidArgument(name, core, "a function of i32, i64, f32 and f64 only")
    core_in, core_out = parse(core)
    if declared is None:
        return Signature(core_in, core_out, core_in, core_out)
    given, wanted = parse(declared)
    flat = tuple(value for kind in given for value in _core(kind))
    fits = flat == core_in
    if any(kind not in PLAIN for kind in wanted):
        fits = fits and len(wanted) == 1 and wanted[0] in WIDE and core_out in PACKED
    else:
        fits = fits and wanted == core_out
    if not fits:
        raise InvalidArgument(name, declared, f"a signature that fits {core} of the module")
    return Signature(given, wanted, core_in, core_out)


def _core(kind: str) -> tuple[str, ...]:
    return (kind,) if kind in PLAIN else WIDE.get(kind) or ENDED[kind]


def raw_layout(core: Sequence[str]) -> struct.Struct:
    """How values lie in the 16-byte slots of the C API."""
    return struct.Struct("<" + "".join(f"{PLAIN[kind]}{_PAD[PLAIN[kind]]}" for kind in core))


def number(name: str, position: int, kind: str, value: Any) -> int | float:
    """``value`` as what goes into a slot of ``kind``; unsigned integers are taken, too.

    Raises:
        InvalidArgument: It does not fit.
    """
    if kind in {"f32", "f64"}:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                struct.pack(f"<{PLAIN[kind]}", value)
                return float(value)
            except (OverflowError, struct.error):
                pass
    elif isinstance(value, int):
        bits = 32 if kind == "i32" else 64
        if -(1 << bits - 1) <= value < 1 << bits:
            return value - (1 << bits) if value >> bits - 1 > 0 else int(value)
    raise InvalidArgument(f"{name}() argument {position + 1}", value, f"a number of type {kind}")

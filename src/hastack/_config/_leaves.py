"""Single values: which of them fit a type, and what becomes of them."""

from __future__ import annotations

import datetime as dt
import tomllib
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from hastack._core._errors import InvalidArgument

from ._quantities import EnvText, UnfitError, kind_of, parse_seconds, plain_number, shown
from ._secret import Secret
from ._types import Hint, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _bool(value: object, _: Hint) -> bool:
    if isinstance(value, EnvText) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if not isinstance(value, bool):
        accepted = "true, false, 1 or 0" if isinstance(value, EnvText) else "true or false"
        raise UnfitError(f"expected a boolean, got {_what(value)}", accepted)
    return value


def _int(value: object, _: Hint) -> int:
    if isinstance(value, EnvText):
        try:
            return int(value)
        except ValueError:
            raise UnfitError(f"{shown(value)} is not an integer", "an integer") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitError(f"expected an integer, got {_what(value)}", "an integer")
    return value


def _float(value: object, _: Hint) -> float:
    return plain_number(value, "a finite number")


def _str(value: object, _: Hint) -> str:
    if not isinstance(value, str):
        raise UnfitError(f"expected a string, got {_what(value)}", "a string")
    return str(value)


def _secret(value: object, _: Hint) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise UnfitError(f"expected a string, got {kind_of(value)}", "a string, not shown")
    return Secret(value)


def _path(value: object, _: Hint) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise UnfitError(f"expected a path, got {_what(value)}", "a path")
    return Path(str(value))


def _timedelta(value: object, _: Hint) -> dt.timedelta:
    return dt.timedelta(seconds=parse_seconds(value))


def _moment(value: object, hint: Hint) -> Any:
    # A datetime is a date as well, but not what a date setting means.
    if type(value) is hint:
        return value
    if isinstance(value, str):
        try:
            return hint.fromisoformat(value)
        except ValueError:
            pass
    raise UnfitError(f"{_what(value)} is not a {hint.__name__}", f"a {hint.__name__} in ISO 8601")


def _literal(value: object, hint: Hint) -> Any:
    return _one_of(value, {member: member for member in get_args(hint)})


def _enum(value: object, hint: Hint) -> Any:
    if isinstance(value, hint):
        return value
    return _one_of(value, {member.value: member for member in hint})


def _one_of(value: object, members: dict[Any, Any]) -> Any:
    for member, result in members.items():
        if isinstance(value, EnvText) and str(member) == value:
            return result
        # 1 == True, but a boolean is not what `Literal[1]` asks for.
        if member == value and (type(member) is type(value) or isinstance(value, str)):
            return result
    raise UnfitError(
        f"{shown(value)} is not one of them{did_you_mean(closest(value, members))}", listed(members)
    )


def listed(members: Iterable[object]) -> str:
    """The accepted values in words."""
    return ", ".join(repr(member) for member in members)


def closest(given: object, known: Iterable[object]) -> str | None:
    """The known name that ``given`` is most likely a misspelling of."""
    import difflib

    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(close: str | None) -> str:
    """The end of a message, when there is something to say."""
    return f"; did you mean {close!r}?" if close else ""


def _what(value: object) -> str:
    return shown(value) if isinstance(value, (str, int, float)) else kind_of(value)


def _quantity(value: object, hint: Hint) -> Any:
    mark = mark_of(hint)
    assert mark is not None
    return mark.parse(value)


def register_type(kind: type[T], parse: Callable[[Any], T], *, accepted: str) -> None:
    """Teach config a type for single values.

    Args:
        kind: The type, as it stands in annotations.
        parse: Makes one from what a source says: a string, number, boolean, list or table. A
            value that already is one never gets here. Any exception means "does not fit".
        accepted: What fits, for messages.

    Example:
        >>> import attrs
        >>> from hastack import config
        >>> config.register_type(complex, complex, accepted="a complex number such as '1+2j'")
        >>> @attrs.frozen
        ... class Filter:
        ...     pole: complex
        >>> config.load(into=Filter, env=None, override={"pole": "1+2j"}).pole
        (1+2j)
    """

    def hook(value: object, _: Hint) -> T:
        if isinstance(value, kind):
            return value
        try:
            return parse(value)
        except Exception as error:
            raise UnfitError(f"{_what(value)} does not fit", accepted) from error

    from ._converter import CONVERTER

    CONVERTER.register_structure_hook(kind, hook)


def structure_leaf(value: object, hint: Hint) -> Any:
    """``value`` as a ``hint``, or `UnfitError`.

    Raises:
        InvalidArgument: Nobody taught config the type.
    """
    if hint is Any or hint is object:
        return _typeless(value)
    # By hand, because versions of cattrs differ in what they ask first about an IntEnum.
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(value, hint)
    from ._converter import CONVERTER, Untaught

    try:
        return CONVERTER.structure(value, hint)
    except Untaught:
        raise InvalidArgument(
            "into", hint, "types that config knows; see hastack.config.register_type"
        ) from None


def _typeless(value: Any) -> Any:
    """``value`` for a setting of any type: variables give plain text."""
    if isinstance(value, dict):
        return {key: _typeless(each) for key, each in value.items()}
    return str(value) if isinstance(value, EnvText) else value


def list_from_text(text: EnvText) -> list[Any]:
    """The elements of a list in a variable: ``a,b`` or, with brackets, TOML's own notation."""
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            elements: list[Any] = tomllib.loads(f"list = {stripped}")["list"]
        except tomllib.TOMLDecodeError:
            raise UnfitError("is not a list in TOML's notation", "a,b,c or [1, 2, 3]") from None
        return elements
    return [EnvText(part.strip()) for part in stripped.split(",")] if stripped else []

"""How a setting is declared: its unit, its range, its words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast, final

import attrs

from ._quantities import UnfitError, parse_bytes, parse_rate, parse_seconds, shown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HELP = "hastack.config.help"
UNIT = "hastack.config.unit"
SECTIONS = "hastack.config.sections"  # marks the field that is no setting itself


@final
@attrs.frozen
class Quantity:
    """Marks an annotated type whose texts are read by ``parse``."""

    name: str
    parse: Callable[[object], Any]
    unit: str
    pattern: str


SECONDS = Quantity("seconds", parse_seconds, "seconds", r"^\s*(\d+(\.\d+)?\s*(us|ms|s|min|m|h|d)\s*)+$")  # fmt: skip
BYTES = Quantity("bytes", parse_bytes, "bytes", r"^\s*\d+(\.\d+)?\s*([kKmMgGtT][iI]?)?[bB]\s*$")
RATE = Quantity("rate", parse_rate, "permits per second", r"^.*\S\s*(/|per).*[a-z]\s*$")

Seconds: TypeAlias = Annotated[float, SECONDS]
"""A length of time; read from ``5``, ``"250ms"``, ``"1h30m"``, kept as float seconds."""

Bytes: TypeAlias = Annotated[int, BYTES]
"""A size; read from ``1024`` or ``"16MiB"``, kept as a whole number of bytes."""

Rate: TypeAlias = Annotated[str | float, RATE]
"""A rate as `hastack.ratelimit` takes it: permits per second, or ``"5000 per hour"``."""


@final
@attrs.frozen(kw_only=True)
class Range:
    """An attrs validator that knows its bounds, for messages and for the schema."""

    above: float | None = None
    minimum: float | None = None
    below: float | None = None
    maximum: float | None = None

    def accepted(self) -> str:
        """The bounds in words."""
        signs = ((">", self.above), (">=", self.minimum), ("<", self.below), ("<=", self.maximum))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in signs if bound is not None)

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies inside; NaN lies nowhere."""
        return (
            (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.below is None or value < self.below)
            and (self.maximum is None or value <= self.maximum)
        )

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Refuse a value outside; ``None`` and texts (of a rate) are judged by their type."""
        if value is None or isinstance(value, str):
            return
        if not self.holds(cast("float", value)):
            raise UnfitError(f"{shown(value)} is out of range", self.accepted())


def setting(
    default: T | Any = attrs.NOTHING,
    *,
    factory: Callable[[], T] | None = None,
    help: str = "",  # noqa: A002  # the word that readers look for
    unit: str | None = None,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
    validator: Callable[[Any, attrs.Attribute[Any], Any], object] | None = None,
) -> Any:
    """An ``attrs.field`` with the words and bounds that messages and the schema show.

    Plain ``attrs.field`` and bare defaults work as well; this only says more.

    Args:
        default: Value when no source gives one; without it and ``factory`` the setting is
            required.
        factory: Makes the default instead.
        help: One sentence for people.
        unit: Unit shown with the value; `Seconds` and `Bytes` bring theirs.
        above: The value must be greater than this.
        minimum: The value must be at least this.
        below: The value must be less than this.
        maximum: The value must be at most this.
        validator: A further attrs validator.

    Example:
        >>> import attrs
        >>> from hastack.config import Seconds, load, setting
        >>> @attrs.frozen(kw_only=True)
        ... class Cache:
        ...     entries: int = setting(1000, minimum=1, help="Entries kept.")
        ...     ttl: Seconds = setting(60.0, above=0.0)
        >>> load(into=Cache, env=None, override={"ttl": "5min"})
        Cache(entries=1000, ttl=300.0)
    """
    bounds = Range(above=above, minimum=minimum, below=below, maximum=maximum)
    checks: list[Any] = [bounds] if bounds != Range() else []
    if validator is not None:
        checks.append(validator)
    metadata = {HELP: help} | ({UNIT: unit} if unit else {})
    if factory is not None:
        return attrs.field(factory=factory, validator=checks or None, metadata=metadata)
    return attrs.field(default=default, validator=checks or None, metadata=metadata)

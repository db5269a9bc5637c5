"""Which errors a policy acts on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from hastack._core._errors import Cancelled, ContextError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    Failures: TypeAlias = (
        type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
    )
    """Error classes, or a predicate."""


def failures(
    parameter: str, wanted: Failures | None, *, never: type[ContextError] = Cancelled
) -> Callable[[Exception], bool]:
    """A predicate for ``wanted``: one class, several, a predicate, or ``None`` for the default.

    The default is every `Exception` except `InvalidArgument`, which is a mistake in the program:
    to repeat or to hide it would only delay its discovery.

    Args:
        parameter: Name for the error.
        wanted: What the user gave.
        never: Context errors that are out whatever the user gave.

    Raises:
        InvalidArgument: A class is no `Exception`; cancellation and interrupts always pass.
    """
    if wanted is None:
        out: tuple[type[Exception], ...] = (never, InvalidArgument)
        return lambda error: not isinstance(error, out)
    if isinstance(wanted, (type, tuple)):
        classes = wanted if isinstance(wanted, tuple) else (wanted,)
        if not classes or not _are_errors(classes):
            raise _unaccepted(parameter, wanted)
        return lambda error: isinstance(error, classes) and not isinstance(error, never)
    if not callable(wanted):
        raise _unaccepted(parameter, wanted)
    return lambda error: not isinstance(error, never) and bool(wanted(error))


def _are_errors(classes: tuple[object, ...]) -> bool:
    return all(isinstance(each, type) and issubclass(each, Exception) for each in classes)


def _unaccepted(parameter: str, value: object) -> InvalidArgument:
    return InvalidArgument(
        parameter, value, "subclasses of Exception, or a predicate that takes the error"
    )

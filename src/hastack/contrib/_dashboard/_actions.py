"""What an operator may do through a dashboard, once that is allowed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core._errors import InvalidArgument, ShutdownRequested

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._observer import Observer

__all__ = ("Asked", "asked", "perform")

MAX_BODY = 4096

_BREAKER: dict[str, Callable[[Any], None]] = {
    "open": lambda breaker: breaker.force_open(),
    "close": lambda breaker: breaker.reset(),
    "enable": lambda breaker: breaker.enable(),
    "disable": lambda breaker: breaker.disable(),
    "observe": lambda breaker: breaker.observe_only(),
}
_NAMES = (*_BREAKER, "limit", "hold", "release", "shutdown")


@final
@attrs.frozen
class Asked:
    """An action as it was asked for."""

    action: str
    target: str
    value: float | None


def asked(body: bytes) -> Asked:
    """The action in a request's body.

    Raises:
        InvalidArgument: It is no JSON object with ``action``, ``target`` and perhaps ``value``.
    """
    accepted = '{"action": ..., "target": the id of a row, "value": a number}'
    try:
        found = json.loads(body)
    except ValueError:
        raise InvalidArgument("body", body[:80], accepted) from None
    if not isinstance(found, dict):
        raise InvalidArgument("body", found, accepted)
    action, target, value = (found.get(each) for each in ("action", "target", "value"))
    if action not in _NAMES:
        raise InvalidArgument("action", action, f"one of {', '.join(_NAMES)}")
    if not isinstance(target, str):
        raise InvalidArgument("target", target, "the id of a row")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (action == "limit") is not number or not (number or value is None):
        raise InvalidArgument("value", value, "a number, with action 'limit' only")
    return Asked(action, target, value if number else None)


def perform(observer: Observer, wanted: Asked, thing: Any) -> None:
    """Do it.

    Raises:
        InvalidArgument: The row is of a kind that cannot do that, or refuses the value.
    """
    kind = wanted.target.partition("-")[0]
    if wanted.action in _BREAKER and kind == "breakers":
        _BREAKER[wanted.action](thing)
    elif wanted.action == "limit" and kind == "limiters" and hasattr(thing, "update"):
        name = "rate" if hasattr(thing, "rate") else "limit"
        thing.update(**{name: wanted.value})
    elif wanted.action == "shutdown" and kind == "lifecycles":
        thing.shutdown(ShutdownRequested("asked for on the dashboard"))
    elif wanted.action == "hold" and kind == "health":
        if wanted.target not in observer.held:
            observer.held[wanted.target] = thing.hold("dashboard", "held by an operator")
    elif wanted.action == "release" and kind == "health":
        release = observer.held.pop(wanted.target, None)
        if release is not None:
            release()
    else:
        raise InvalidArgument("action", wanted.action, f"something that {kind} can do")

"""The context on the wire: timeouts and W3C trace identity in headers, both ways.

Deadlines cross machines only as the time that remains, since clocks differ: `from_headers` makes
a deadline of it on arrival, `outgoing_headers` says what is left when a request leaves.

Headers come from strangers. Nothing here raises on what a peer has sent: a malformed, absurd or
contradictory header is as good as none.

Example:
    >>> from hastack.contrib import propagate
    >>> ctx = propagate.from_headers({"Grpc-Timeout": "20S", "traceparent":
    ...     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    >>> 10.0 < ctx.remaining() <= 20.0
    True
    >>> propagate.traceparent(ctx).sampled
    True
    >>> sorted(propagate.outgoing_headers(ctx))
    ['traceparent', 'x-request-timeout-ms']
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from hastack import context
from hastack._core._validate import optional_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from hastack._core._validate import Seconds

    class HasItems(Protocol):
        """A mapping, or whatever lists its headers like one."""

        def items(self) -> Iterable[tuple[Any, Any]]: ...

    Headers: TypeAlias = HasItems | Iterable[tuple[Any, Any]]

__all__ = (
    "ACCEPTED_TIMEOUTS",
    "GRPC",
    "MILLISECONDS",
    "SECONDS",
    "SENT_TIMEOUTS",
    "TimeoutFormat",
    "TraceParent",
    "format_grpc_timeout",
    "format_traceparent",
    "from_headers",
    "outgoing_headers",
    "parse_grpc_timeout",
    "parse_traceparent",
    "traceparent",
    "with_traceparent",
)

# Timeouts

_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_GRPC_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC_MAX = 99_999_999
_MILLISECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


def parse_grpc_timeout(text: str) -> float | None:
    """Seconds in a ``grpc-timeout`` value; ``None`` when it is none.

    Source: gRPC over HTTP/2, ``Timeout``: 1 to 8 digits and one of ``H M S m u n``.

    Example:
        >>> from hastack.contrib import propagate
        >>> propagate.parse_grpc_timeout("1500m"), propagate.parse_grpc_timeout("soon")
        (1.5, None)
    """
    match = _GRPC.fullmatch(text)
    return None if match is None else int(match[1]) * _GRPC_UNITS[match[2]]


def format_grpc_timeout(seconds: float) -> str:
    """``seconds`` as a ``grpc-timeout`` value: the finest unit that fits, rounded down.

    What has passed already becomes the shortest timeout there is, because zero is not allowed.

    Example:
        >>> from hastack.contrib import propagate
        >>> propagate.format_grpc_timeout(0.25), propagate.format_grpc_timeout(-1.0)
        ('250000u', '1n')
    """
    for unit, scale in (("n", 1e9), ("u", 1e6), ("m", 1e3), ("S", 1.0)):
        # The inner rounding keeps 0.29 s from becoming 289999 microseconds.
        count = int(round(seconds * scale, 3)) if seconds < 1e8 else _GRPC_MAX + 1
        if count <= _GRPC_MAX:
            return f"{max(count, 1)}{unit}"
    minutes = seconds / 60.0
    if minutes <= _GRPC_MAX:
        return f"{int(minutes)}M"
    return f"{int(min(minutes / 60.0, _GRPC_MAX))}H"


def _parse_milliseconds(text: str) -> float | None:
    # Zero means "no timeout" to the proxies that send these headers.
    return (int(text) / 1000.0 or None) if _MILLISECONDS.fullmatch(text) else None


def _format_milliseconds(seconds: float) -> str:
    return str(max(1, int(round(min(seconds, 1e8) * 1000.0, 3))))


def _parse_seconds(text: str) -> float | None:
    return (float(text) or None) if _SECONDS.fullmatch(text) else None


def _format_seconds(seconds: float) -> str:
    return f"{min(max(seconds, 0.001), 1e8):.3f}"


class TimeoutFormat(NamedTuple):
    """How one header writes a timeout.

    Attributes:
        parse: Seconds in a value, ``None`` for anything malformed; never raises.
        format: A value for so many seconds.
    """

    parse: Callable[[str], float | None]
    format: Callable[[float], str]


GRPC = TimeoutFormat(parse_grpc_timeout, format_grpc_timeout)
"""``grpc-timeout``: ``"250m"``, ``"3S"``."""

MILLISECONDS = TimeoutFormat(_parse_milliseconds, _format_milliseconds)
"""Whole milliseconds, as Envoy writes them: ``"250"``; ``"0"`` is no timeout."""

SECONDS = TimeoutFormat(_parse_seconds, _format_seconds)
"""Seconds with an optional fraction: ``"0.25"``; ``"0"`` is no timeout."""

ACCEPTED_TIMEOUTS: Mapping[str, TimeoutFormat] = MappingProxyType(
    {
        "grpc-timeout": GRPC,
        "x-envoy-expected-rq-timeout-ms": MILLISECONDS,
        "x-request-timeout-ms": MILLISECONDS,
        "request-timeout": SECONDS,
    }
)
"""Headers that `from_headers` reads when not told otherwise; the shortest timeout counts."""

SENT_TIMEOUTS: Mapping[str, TimeoutFormat] = MappingProxyType(
    {"x-request-timeout-ms": MILLISECONDS}
)
"""Headers that `outgoing_headers` writes when not told otherwise."""

# Trace identity

_TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_STATE_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)
_KEY = "hastack.traceparent"


class TraceParent(NamedTuple):
    """Identity of the trace that a call belongs to, and of the span that made the call.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: 16 lower-case hexadecimal digits, not all zero: the caller's span.
        flags: Trace flags, 0 to 255; bit 0 says sampled, bit 1 that the id is random.
        state: The ``tracestate`` of other vendors, passed on unchanged; empty without one.
    """

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded this trace."""
        return bool(self.flags & 1)


def parse_traceparent(text: str) -> TraceParent | None:
    """The identity in a ``traceparent`` value; ``None`` when it is invalid.

    Source: W3C Trace Context, section "traceparent Header", with its rules for versions to come.

    Example:
        >>> from hastack.contrib import propagate
        >>> tp = propagate.parse_traceparent(
        ...     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        >>> tp.span_id, tp.sampled
        ('00f067aa0ba902b7', True)
    """
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))


def format_traceparent(parent: TraceParent) -> str:
    """``parent`` as a ``traceparent`` value of version 00, with the flags known to it."""
    return f"00-{parent.trace_id}-{parent.span_id}-{parent.flags & 3:02x}"


def _valid_state(values: list[str]) -> str:
    """The members of all ``tracestate`` headers as one value; empty when any is invalid."""
    members = [member.strip(" \t") for value in values for member in value.split(",")]
    members = [member for member in members if member]
    if len(members) > 32 or not all(map(_STATE_MEMBER.fullmatch, members)):
        return ""
    names = {member.partition("=")[0] for member in members}
    return ",".join(members) if len(names) == len(members) else ""


def traceparent(ctx: context.Context | None = None) -> TraceParent | None:
    """The trace identity that ``ctx`` (default: the current context) carries."""
    found = (ctx or context.current()).value(_KEY)
    return found if isinstance(found, TraceParent) else None


def with_traceparent(parent: TraceParent, ctx: context.Context | None = None) -> context.Context:
    """A context below ``ctx`` that carries ``parent`` on; for those who open child spans."""
    return context.with_value(_KEY, parent, ctx)


# Both ways

_LONGEST = 4096  # characters of a header value that are looked at


def from_headers(
    headers: Headers,
    parent: context.Context | None = None,
    *,
    max_timeout: Seconds | None = None,
    timeouts: Mapping[str, TimeoutFormat] = ACCEPTED_TIMEOUTS,
) -> context.Context:
    """The context of an incoming request; enter it with ``with`` or ``async with``.

    Args:
        headers: Pairs, or anything with ``items()``; names in any case, text or bytes: what
            ASGI, HTTP libraries and gRPC metadata have.
        parent: Usually the root context of the service; the current context by default.
        max_timeout: Upper bound in seconds for what a peer may ask, and the timeout of requests
            that ask for nothing; ``None`` for no bound.
        timeouts: Header names in lower case and their formats; the shortest one present counts.

    Raises:
        InvalidArgument: ``max_timeout`` is not above zero. Never because of ``headers``.
    """
    bound = optional_seconds("max_timeout", max_timeout)
    traces: list[str] = []
    states: list[str] = []
    for name, value in _pairs(headers):
        form = timeouts.get(name)
        if form is not None:
            seconds = form.parse(value)
            if seconds is not None and (bound is None or seconds < bound):
                bound = seconds
        elif name == "traceparent":
            traces.append(value)
        elif name == "tracestate":
            states.append(value)
    # More than one traceparent is as good as none: nobody knows which is true.
    trace = parse_traceparent(traces[0]) if len(traces) == 1 else None
    if trace is not None:
        if states:
            trace = trace._replace(state=_valid_state(states))
        parent = with_traceparent(trace, parent)
    return context.timeout(bound, parent=parent)


def outgoing_headers(
    ctx: context.Context | None = None,
    *,
    timeouts: Mapping[str, TimeoutFormat] = SENT_TIMEOUTS,
) -> dict[str, str]:
    """Headers that carry ``ctx`` (default: the current context) to a peer.

    Args:
        ctx: Its remaining time and trace identity are sent, as far as it has them.
        timeouts: Header names and formats to send the remaining time in.
    """
    if ctx is None:
        ctx = context.current()
    headers: dict[str, str] = {}
    left = ctx.remaining()
    if left is not None:
        headers.update((name, form.format(left)) for name, form in timeouts.items())
    trace = traceparent(ctx)
    if trace is not None:
        headers["traceparent"] = format_traceparent(trace)
        if trace.state:
            headers["tracestate"] = trace.state
    return headers


def _pairs(headers: Headers) -> Iterator[tuple[str, str]]:
    """Names in lower case and values as text; whatever is not a header is left out."""
    # Many header containers (email.message, werkzeug) have items() and are no Mapping.
    items = getattr(headers, "items", None)
    pairs: Iterable[Any] = cast("Iterable[Any]", headers) if items is None else items()
    for pair in pairs:
        try:
            name, value = pair
        except (TypeError, ValueError):
            continue
        name, value = _text(name), _text(value)
        if name and value:
            yield name.lower(), value.strip(" \t")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value[:_LONGEST].decode("latin-1")
    return value[:_LONGEST] if isinstance(value, str) else ""

"""From the settings of a backend to its exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument
from hastack._core._extras import require
from hastack.ratelimit import from_config

from ._exporter import Exporter
from ._grpc import GrpcTransport
from ._http import HttpTransport
from ._loki import LokiPush
from ._options import SIGNALS, QueueConfig, SpillConfig
from ._otlp_logs import OtlpLogs
from ._otlp_metrics import OtlpMetrics
from ._otlp_traces import OtlpTraces
from ._remote_write import RemoteWrite
from ._retry_rules import RetryRules
from ._split import LOKI, LOKI_JSON, OTLP, REMOTE_WRITE_1, REMOTE_WRITE_2, data_points, one
from ._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack.ratelimit import CircuitBreaker

    from ._encoding import Encoder
    from ._options import BackendConfig, Signal

CARRIES: dict[str, tuple[Signal, ...]] = {
    "otlp-http": SIGNALS,
    "otlp-grpc": SIGNALS,
    "loki": ("logs",),
    "remote-write": ("metrics",),
}
"""The signals of each protocol."""

_OTLP: dict[str, Callable[[], Any]] = {
    "traces": OtlpTraces,
    "metrics": OtlpMetrics,
    "logs": OtlpLogs,
}


def exporters_of(
    name: str,
    backend: BackendConfig,
    *,
    queue: QueueConfig | None = None,
    spill: SpillConfig | None = None,
) -> list[Exporter]:
    """One exporter for each signal of a backend; they share its breaker.

    Raises:
        InvalidArgument: The protocol does not carry a signal, or a setting is wrong.
        MissingDependency: A package is not installed.
    """
    breaker = from_config(backend.breaker, name=name)
    return [
        exporter_of(name, backend, signal, queue=queue, spill=spill, breaker=breaker)
        for signal in signals_of(backend)
    ]


def signals_of(backend: BackendConfig) -> tuple[Signal, ...]:
    """The signals that a backend gets.

    Raises:
        InvalidArgument: The protocol does not carry one of them.
    """
    known = CARRIES[backend.kind]
    if backend.signals is None:
        return known
    for signal in backend.signals:
        if signal not in known:
            raise InvalidArgument("signals", signal, f"of {backend.kind}: {', '.join(known)}")
    return tuple(dict.fromkeys(backend.signals))


def exporter_of(
    name: str,
    backend: BackendConfig,
    signal: Signal,
    *,
    queue: QueueConfig | None = None,
    spill: SpillConfig | None = None,
    breaker: CircuitBreaker | None = None,
) -> Exporter:
    """The exporter of one signal."""
    wires = wires_of(backend, signal)
    return Exporter(
        f"{name}-{signal}",
        signal=signal,
        wire=wires[0],
        fallback=wires[1] if len(wires) > 1 else None,
        queue=queue,
        spill=spill,
        breaker=breaker,
        timeout=backend.timeout,
    )


def wires_of(backend: BackendConfig, signal: Signal) -> list[Wire]:
    """How a signal gets to a backend, and what to do when that is too new for it."""
    if backend.kind != "remote-write" and backend.histograms != "native":
        raise InvalidArgument("histograms", backend.histograms, "native, unless for remote-write")
    if backend.kind != "loki" and backend.form != "protobuf":
        raise InvalidArgument("form", backend.form, "protobuf, unless for loki")
    if backend.kind == "otlp-grpc":
        return [_grpc(backend, signal)]
    require("cramjam", extra="otel")  # now rather than on a thread later
    if backend.kind == "otlp-http":
        weight = data_points if signal == "metrics" else one
        url = f"{backend.endpoint.rstrip('/')}/v1/{signal}"
        return [_http(backend, url, _OTLP[signal](), RetryRules.OTLP_HTTP, (OTLP, weight))]
    if backend.kind == "loki":
        url = _with_path(backend.endpoint, "/loki/api/v1/push")
        path = LOKI if backend.form == "protobuf" else LOKI_JSON
        return [_http(backend, url, LokiPush(form=backend.form), RetryRules.LOKI, (path, one))]
    url = _with_path(backend.endpoint, "/api/v1/write")
    native = backend.histograms != "classic"
    custom = backend.histograms == "custom"
    second = RemoteWrite(version=2, native_histograms=native, custom_buckets=custom)
    first = RemoteWrite(version=1, native_histograms=native)
    return [
        _http(backend, url, second, RetryRules.REMOTE_WRITE_2, (REMOTE_WRITE_2, one)),
        _http(backend, url, first, RetryRules.REMOTE_WRITE_1, (REMOTE_WRITE_1, one)),
    ]


def _with_path(endpoint: str, path: str) -> str:
    """The endpoint itself when it has a path, or the usual one."""
    _, _, rest = endpoint.partition("://")
    return endpoint if rest.rstrip("/").count("/") else endpoint.rstrip("/") + path


def _headers(backend: BackendConfig) -> dict[str, str]:
    headers = dict(backend.headers)
    if backend.token is not None:
        headers["Authorization"] = f"Bearer {backend.token.reveal()}"
    return headers


def _http(
    backend: BackendConfig, url: str, encoder: Encoder, rules: RetryRules, split: Any
) -> Wire:
    shape = encoder.format
    compression = backend.compression or shape.compressions[0]
    headers = {"Content-Type": shape.content_type, **dict(shape.headers)}
    if compression != "identity":
        headers["Content-Encoding"] = compression
    transport = HttpTransport(
        url,
        headers={**headers, **_headers(backend)},
        ca_file=backend.ca_file,
        cert_file=backend.cert_file,
        key_file=backend.key_file,
    )
    return Wire(
        encoder=encoder, transport=transport, rules=rules, compression=compression, split=split
    )


def _grpc(backend: BackendConfig, signal: Signal) -> Wire:
    compression = backend.compression or "identity"
    if compression not in {"gzip", "identity"}:
        raise InvalidArgument("compression", compression, "gzip or identity")
    transport = GrpcTransport(
        backend.endpoint,
        signal,
        headers=_headers(backend),
        compression=compression,
        ca_file=backend.ca_file,
        cert_file=backend.cert_file,
        key_file=backend.key_file,
    )
    return Wire(
        encoder=_OTLP[signal](),
        transport=transport,
        rules=RetryRules.OTLP_GRPC,
        compression="identity",  # grpc compresses by itself; what is queued is the message
        split=(OTLP, data_points if signal == "metrics" else one),
    )

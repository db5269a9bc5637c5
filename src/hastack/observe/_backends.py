"""From the settings of a backend to its exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument
from hastack.ratelimit import from_config

from ._grpc import GrpcTransport
from ._http import HttpTransport
from ._options import SIGNALS, QueueConfig, SpillConfig
from ._otlp_logs import OtlpLogs
from ._otlp_metrics import OtlpMetrics
from ._otlp_traces import OtlpTraces
from ._retry_rules import RetryRules
from ._split import OTLP, data_points, one
from .pipeline import Exporter

if TYPE_CHECKING:
    from hastack.ratelimit import CircuitBreaker

    from ._encoding import Encoder
    from ._options import BackendConfig, Signal
    from ._transport import Transport

CARRIES: dict[str, tuple[Signal, ...]] = {
    "otlp-http": SIGNALS,
    "otlp-grpc": SIGNALS,
}
"""The signals of each protocol."""

_OTLP: dict[str, type[Any]] = {"traces": OtlpTraces, "metrics": OtlpMetrics, "logs": OtlpLogs}


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
    encoder: Encoder = _OTLP[signal]()
    compression = backend.compression
    if compression is not None and compression not in encoder.format.compressions:
        accepted = ", ".join(encoder.format.compressions)
        raise InvalidArgument("compression", compression, f"of {backend.kind}: {accepted}")
    wire = compression or encoder.format.compressions[0]
    if backend.kind == "otlp-grpc":
        # grpc compresses by itself; what is queued is the message.
        transport = grpc_transport(backend, signal, compression or "identity")
        rules, wire = RetryRules.OTLP_GRPC, "identity"
    else:
        url = backend.endpoint.rstrip("/") + f"/v1/{signal}"
        transport = http_transport(backend, url, encoder, wire)
        rules = RetryRules.OTLP_HTTP
    return Exporter(
        f"{name}-{signal}",
        signal=signal,
        encoder=encoder,
        transport=transport,
        rules=rules,
        compression=wire,
        split=(OTLP, data_points if signal == "metrics" else one),
        queue=queue,
        spill=spill,
        breaker=breaker,
        timeout=backend.timeout,
    )


def headers_of(backend: BackendConfig) -> dict[str, str]:
    """The header fields that the settings ask for."""
    headers = dict(backend.headers)
    if backend.token is not None:
        headers["Authorization"] = f"Bearer {backend.token.reveal()}"
    return headers


def http_transport(
    backend: BackendConfig, url: str, encoder: Encoder, compression: str
) -> HttpTransport:
    """A transport to ``url`` for bodies of an encoder."""
    shape = encoder.format
    headers = {"Content-Type": shape.content_type, **dict(shape.headers)}
    if compression != "identity":
        headers["Content-Encoding"] = compression
    return HttpTransport(
        url,
        headers={**headers, **headers_of(backend)},
        ca_file=backend.ca_file,
        cert_file=backend.cert_file,
        key_file=backend.key_file,
    )


def grpc_transport(backend: BackendConfig, signal: Signal, compression: str) -> Transport:
    """A transport to the OTLP service of a signal."""
    return GrpcTransport(
        backend.endpoint,
        signal,
        headers=headers_of(backend),
        compression=compression,
        ca_file=backend.ca_file,
        cert_file=backend.cert_file,
        key_file=backend.key_file,
    )

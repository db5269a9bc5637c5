"""Asking configured backends whether they are well: an empty request to each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from hastack.observe._answers import GrpcAnswer, HttpAnswer, NoAnswer
from hastack.observe._backends import signals_of, wires_of
from hastack.observe._compress import compress
from hastack.observe._metrics_server import address_of
from hastack.observe._prometheus_accept import OPENMETRICS, TEXT
from hastack.observe._retry_rules import Kind, RetryRules, judge

if TYPE_CHECKING:
    from hastack.observe import BackendConfig
    from hastack.observe._answers import Answer
    from hastack.observe._options import PrometheusConfig, Signal
    from hastack.observe._wire import Wire

__all__ = ("ask_backend", "ask_page")

# Without its first symbol, which is always the empty one, a request of version 2 is none.
_EMPTY = {RetryRules.REMOTE_WRITE_2: b"\x22\x00"}

_UNREACHED = {
    "dns": "the name does not resolve",
    "connect": "nobody listens there",
    "tls": "the TLS handshake failed: is it the right port, and the certificate trusted?",
    "timeout": "no answer within the time",
    "cut": "the connection broke: is it the right protocol?",
    "unreadable": "what answers there speaks another protocol",
}
_REFUSED = {
    400: "reached, and an empty request is no request to it",
    401: "it wants credentials, or others: token, headers",
    403: "these credentials may not write there",
    404: "nothing at this path: is the endpoint right, and the receiver enabled?",
    405: "nothing at this path takes a POST: is the endpoint right?",
    415: "it does not know this format",
}
_REFUSED_GRPC = {
    "UNIMPLEMENTED": "no OTLP service for this signal there",
    "UNAUTHENTICATED": "it wants credentials, or others: token, headers",
    "PERMISSION_DENIED": "these credentials may not write there",
}


def ask_backend(name: str, backend: BackendConfig, timeout: float) -> list[dict[str, Any]]:
    """One row for each signal that goes there.

    Raises:
        InvalidArgument: The protocol does not carry a signal, or a setting is wrong.
        MissingDependency: A package is not installed.
    """
    return [_row(name, backend, signal, timeout) for signal in signals_of(backend)]


def _row(name: str, backend: BackendConfig, signal: Signal, timeout: float) -> dict[str, Any]:
    wires = wires_of(backend, signal)
    began = time.monotonic()
    wire = wires[0]
    answer = _ask(wire, timeout)
    verdict = judge(wire.rules, answer, units=0)
    if verdict.kind is Kind.FALL_BACK:
        wire = wires[-1]
        answer = _ask(wire, timeout)
        verdict = judge(wire.rules, answer, units=0)
    took = (time.monotonic() - began) * 1e3
    well, says = _finding(answer, verdict.kind, verdict.note)
    if well:
        says = f"{wire.encoder.format.name}, {took:.0f} ms" + (f", {says}" if says else "")
    return {
        "backend": name,
        "signal": signal,
        "endpoint": backend.endpoint,
        "ok": well,
        "says": says,
    }


def ask_page(settings: PrometheusConfig, timeout: float) -> dict[str, Any]:
    """Whether the page for Prometheus is served, or can be.

    Raises:
        InvalidArgument: The port that the environment names is none.
    """
    host, port = address_of(settings)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}.get(  # noqa: S104
        host, host
    )
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    well, says = True, "nobody serves it yet"
    try:
        with urlopen(f"{url}{settings.path}", timeout=timeout) as reply:  # noqa: S310  # our own
            text = reply.read()
            well = reply.headers.get_content_type() in {TEXT, OPENMETRICS}
            series = sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))
            says = f"{series} series" if well else "something else answers there"
    except HTTPError as error:
        well, says = False, f"something else answers there ({error})"
        error.close()
    except OSError as error:
        if not isinstance(getattr(error, "reason", error), ConnectionRefusedError):
            well, says = False, f"{error}"
    return {
        "backend": "prometheus",
        "signal": "metrics",
        "endpoint": f"{url}{settings.path}",
        "ok": well,
        "says": says,
    }


def _ask(wire: Wire, timeout: float) -> Answer:
    try:
        return wire.transport.send(
            0, compress(wire.compression, _EMPTY.get(wire.rules, b"")), timeout
        )
    finally:
        wire.transport.abort()
        wire.transport.close(0)


def _finding(answer: Answer, kind: Kind, note: str) -> tuple[bool, str]:
    if kind is Kind.DELIVERED:
        return True, ""
    if isinstance(answer, NoAnswer):
        return False, f"{_UNREACHED.get(answer.kind, answer.kind)} ({answer.detail})"
    if isinstance(answer, GrpcAnswer):
        words = _REFUSED_GRPC.get(answer.code)
        return False, f"{words} ({note})" if words else note
    assert isinstance(answer, HttpAnswer)
    words = _REFUSED.get(answer.status)
    if answer.status == 400:
        return True, str(words)
    if kind is Kind.RETRY:
        return False, f"reached, but it takes nothing now ({note})"
    return False, f"{words} ({note})" if words else note

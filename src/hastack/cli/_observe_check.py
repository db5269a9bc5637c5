"""``hastack observe check``."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from hastack._core._extras import require
from hastack.errors import InvalidArgument
from hastack.observe._answers import GrpcAnswer, HttpAnswer, NoAnswer
from hastack.observe._backends import signals_of, wires_of
from hastack.observe._compress import compress
from hastack.observe._metrics_server import address_of
from hastack.observe._prometheus_accept import OPENMETRICS, TEXT
from hastack.observe._retry_rules import Kind, RetryRules, judge

from ._observe import settings_of

if TYPE_CHECKING:
    import click

    from hastack.observe import BackendConfig
    from hastack.observe._answers import Answer
    from hastack.observe._options import PrometheusConfig, Signal
    from hastack.observe._wire import Wire
else:
    click = require("click", extra="cli")

__all__ = ("check",)

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


@click.command()
@click.option("--config", "files", multiple=True, type=click.Path(), help="Settings file; repeat.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds for one request.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Send an empty request to each backend; exit with 1 when one is not well."""
    settings = settings_of(files)
    backends = settings.backends
    if not backends and not settings.prometheus.enabled:
        raise click.UsageError("no backends are configured: give --config, or set the environment")
    rows = [
        _row(name, backend, signal, timeout)
        for name, backend in backends.items()
        for signal in _signals(backend)
    ]
    if settings.prometheus.enabled:
        rows.append(_page(settings.prometheus, timeout))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            mark = "ok  " if row["ok"] else "FAIL"
            click.echo(f"{mark} {row['backend']} {row['signal']} {row['endpoint']}: {row['says']}")
    ctx.exit(0 if all(row["ok"] for row in rows) else 1)


def _signals(backend: BackendConfig) -> tuple[Signal, ...]:
    try:
        return signals_of(backend)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


def _row(name: str, backend: BackendConfig, signal: Signal, timeout: float) -> dict[str, Any]:
    try:
        wires = wires_of(backend, signal)
    except InvalidArgument as error:
        raise click.UsageError(f"{name}: {error}") from None
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


def _page(settings: PrometheusConfig, timeout: float) -> dict[str, Any]:
    """Whether the page for Prometheus is served, or can be."""
    try:
        host, port = address_of(settings)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
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

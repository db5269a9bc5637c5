"""``hastack observe replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require
from hastack.errors import InvalidArgument
from hastack.observe._grpc import GrpcTransport
from hastack.observe._http import HttpTransport
from hastack.observe._replay import Outcome, directories, look
from hastack.observe._replay import replay as send

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

    from hastack.observe._transport import Transport
else:
    click = require("click", extra="cli")

__all__ = ("replay",)

_PATHS = {
    "loki": "/loki/api/v1/push",
    "remote-write-1": "/api/v1/write",
    "remote-write-2": "/api/v1/write",
}


@click.command()
@click.argument("spill", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--endpoint", metavar="URL", help="Where to; without it, only show what is there.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Repeat as needed.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds for one request.")
@click.option("--tries", default=5, show_default=True, help="Requests for one record.")
@click.pass_context
def replay(
    ctx: click.Context,
    spill: Path,
    endpoint: str | None,
    headers: tuple[str, ...],
    timeout: float,
    tries: int,
) -> None:
    """Show what processes left in SPILL, and send it to --endpoint.

    SPILL is spill.directory of the settings, or a directory in it. Directories of processes that
    run are left alone. Exit status 1: something could not be sent, and is still there.
    """
    fields = {}
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator:
            raise click.UsageError(f"--header {header!r}: expected NAME=VALUE")
        fields[name] = value
    found = [look(path) for path in directories(spill)]
    if not found:
        click.echo(f"{spill}: nothing was left")
        return
    failed = False
    for left in found:
        formats = sorted({str(about.get("format")) for _, about, _ in left.segments})
        click.echo(f"{left.path}: {left.units} units, {', '.join(formats)}")
        if left.torn or left.damaged:
            click.echo(f"  {left.torn} bytes torn, {left.damaged} records damaged")
        if left.live:
            click.echo("  its process runs; it will send them itself")
        elif endpoint is not None:
            failed = not _send(left.path, endpoint, fields, timeout, tries) or failed
    ctx.exit(1 if failed else 0)


def _send(
    path: Path, endpoint: str, headers: Mapping[str, str], timeout: float, tries: int
) -> bool:
    transports: dict[tuple[Any, ...], tuple[Transport, str]] = {}

    def target(about: Mapping[str, Any]) -> tuple[Transport, str] | None:
        key = (about.get("format"), about.get("protocol"), about.get("encoding"))
        if key not in transports:
            try:
                transports[key] = _transport(endpoint, about, headers)
            except (InvalidArgument, KeyError) as error:
                raise click.UsageError(str(error)) from None
        return transports[key]

    try:
        outcome = send(path, target, tries=tries, timeout=timeout)
    finally:
        for transport, _ in transports.values():
            transport.abort()
            transport.close(0)
    _say(outcome)
    return not outcome.left


def _transport(
    endpoint: str, about: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[Transport, str]:
    protocol, encoding = str(about["protocol"]), str(about["encoding"])
    if protocol == "otlp-grpc":
        return GrpcTransport(endpoint, about["signal"], headers=headers), "identity"
    fields = {"Content-Type": about["content_type"], **about["headers"], **headers}
    if encoding != "identity":
        fields["Content-Encoding"] = encoding
    path = _PATHS.get(protocol, f"/v1/{about['signal']}")
    _, _, rest = endpoint.partition("://")
    plain = "/" not in rest.rstrip("/")
    if plain or protocol == "otlp-http":
        endpoint = endpoint.rstrip("/") + path
    return HttpTransport(endpoint, headers=fields), encoding


def _say(outcome: Outcome) -> None:
    parts = [f"{outcome.sent} sent"]
    if outcome.rejected:
        parts.append(f"{outcome.rejected} rejected")
    parts += [f"{count} refused ({reason})" for reason, count in sorted(outcome.refused.items())]
    if outcome.left:
        parts.append(f"{outcome.left} left")
    if outcome.note and (outcome.left or outcome.refused or outcome.rejected):
        parts.append(outcome.note)
    click.echo("  " + ", ".join(parts))

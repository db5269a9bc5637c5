"""``hastack demo scenario``: a whole service, broken in one way after the other."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hastack._core._extras import require
from hastack.errors import MissingDependency

if TYPE_CHECKING:
    import click
else:
    click = require("click", extra="cli")

__all__ = ("scenario",)


@click.command()
@click.option(
    "--real",
    is_flag=True,
    help="On etcd and Prometheus of this machine, not the embedded defaults.",
)
@click.option("--quick", is_flag=True, help="Faults half as long.")
@click.option(
    "--rate",
    type=click.FloatRange(1.0, 200.0),
    default=40.0,
    show_default=True,
    help="Requests per second.",
)
@click.option(
    "--only", multiple=True, metavar="FAULT", help="Only this row, such as SIGTERM; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, not the table.")
def scenario(*, real: bool, quick: bool, rate: float, only: tuple[str, ...], as_json: bool) -> None:
    """Break a whole service in one way after the other, under load.

    Three instances of an order service, their inventory, registration, a signed policy and one
    exporter, from one hastack.toml. Each fault is a row: what clients saw, and whether that is
    within its budget. Exit status 1 when it is not. Takes 40 seconds.
    """
    try:
        require("starlette", extra="web")
        require("uvicorn", extra="web")
        require("grpc", extra="grpc")
        require("httpx", extra="httpx")
        require("opentelemetry.sdk", extra="otel")
        require("msgspec", extra="logs")
        require("wasmtime", extra="wasm")
        if real:
            require("google.protobuf", extra="etcd")
    except MissingDependency as missing:
        click.echo(f"hastack: {missing}", err=True)
        sys.exit(2)
    program = folder() / "scenario.py"
    chosen = {"--real": real, "--quick": quick, "--json": as_json}
    options = [f"--rate={rate:g}", *(f"--only={name}" for name in only)]
    options += [name for name, on in chosen.items() if on]
    # In the place of this process, so that signals reach the one that has processes to stop.
    os.execv(sys.executable, [sys.executable, str(program), *options])  # noqa: S606  # our own file


def folder() -> Path:
    """Where the service is: beside this file when installed, among the examples in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "demo" / "whole_service"
    checkout = here.parents[2] / "examples" / "11-whole-service"
    return installed if installed.is_dir() else checkout

"""``hastack demo``: drive a guarded service past its capacity and compare strategies.

``hastack demo scenario`` is in `_demo_scenario`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hastack._core._extras import require
from hastack.errors import HastackError, MissingDependency

from ._demo_scenario import scenario

if TYPE_CHECKING:
    import click
else:
    click = require("click", extra="cli")

__all__ = ("demo",)

_NAMES = ("unprotected", "fixed-window", "token-bucket", "step-rule", "hastack")
_MOST = 1000.0  # requests per second that one generator process can honestly send


def _rate(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """``2x`` is a multiple of the capacity, ``350`` requests per second."""
    from .demo._workload import Plan

    text = value.strip().lower()
    try:
        rate = float(text[:-1]) * Plan().capacity if text.endswith("x") else float(text)
    except ValueError:
        rate = 0.0
    if not 1.0 <= rate <= _MOST:
        raise click.BadParameter(
            f"{value!r}: expected a multiple of the capacity such as 2x, or requests per "
            f"second; in all 1 to {_MOST:.0f} requests per second"
        )
    return rate


@click.group(invoke_without_command=True)
@click.option(
    "--rate",
    callback=_rate,
    default="2x",
    show_default=True,
    help="Load: a multiple of the capacity (2x), or requests per second (350).",
)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="ACCESS_LOG",
    help="Replay the arrival times of an access log (common, combined, nginx), fitted to "
    "--duration and --rate.",
)
@click.option(
    "--duration",
    type=click.FloatRange(2.0, 300.0),
    default=9.0,
    show_default=True,
    help="Seconds of load per strategy.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything random.")
@click.option(
    "--strategy",
    "names",
    type=click.Choice(_NAMES),
    multiple=True,
    help="Only this one; repeatable. Default: all.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Directory for demo.html and demo.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, not the table.")
@click.option(
    "--serve", is_flag=True, help="Keep the last guarded service up until Ctrl-C afterwards."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of that service; 0 takes a free one."
)
@click.pass_context
def demo(
    ctx: click.Context,
    rate: float,
    trace: Path | None,
    duration: float,
    seed: int,
    names: tuple[str, ...],
    out: Path,
    as_json: bool,
    serve: bool,
    port: int,
) -> None:
    """Drive a guarded service past its capacity, once per strategy, and compare.

    A real ASGI service calls a dependency of limited capacity, which browns out in the middle
    of the load. The result is a table, an HTML report and a JSON file. Takes under a minute.
    """
    if ctx.invoked_subcommand is not None:
        return
    try:
        require("uvicorn", extra="web")
        require("starlette", extra="web")
        from .demo._session import Session
        from .demo._strategies import STRATEGIES
        from .demo._workload import Plan

        _writable(out)
        session = Session(
            plan=Plan(rate=rate, duration=duration, seed=seed),
            strategies=[each for each in STRATEGIES if not names or each.name in names],
            trace=trace,
            out=out,
            as_json=as_json,
        )
        asyncio.run(session.run(serve=serve, port=port))
    except MissingDependency as missing:
        click.echo(f"hastack: {missing}", err=True)
        sys.exit(2)
    except HastackError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)


demo.add_command(scenario)


def _writable(out: Path) -> None:
    """Find out before the run, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        writable = os.access(out, os.W_OK | os.X_OK)
    except OSError as error:
        raise click.BadParameter(f"{out}: {error.strerror}", param_hint="'--out'") from None
    if not writable:
        raise click.BadParameter(f"{out}: not writable", param_hint="'--out'")

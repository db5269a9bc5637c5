"""The root of the ``hastack`` command; each command's module loads when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hastack._core._extras import require

from ._lazy import LazyGroup

if TYPE_CHECKING:
    import click
else:
    click = require("click", extra="cli")

__all__ = ("app",)

# name -> (module, attribute, what `hastack --help` says of it). The summary stands here so
# that the list of commands imports none of them.
_COMMANDS = {
    "config": ("_config", "config", "Check, show and describe configuration."),
    "demo": ("_demo", "demo", "Drive a guarded service past its capacity and compare strategies."),
    "discovery": ("_discovery", "discovery", "Look at what is registered; register by hand."),
    "doctor": ("_doctor", "doctor", "Say what hastack finds on this machine."),
    "ebpf": (
        "_ebpf",
        "ebpf",
        "Build, inspect and attach eBPF objects; say what this kernel can do.",
    ),
    "logs": ("_logs", "logs", "Make records of log lines; schemas, formats, templates of them."),
    "observe": ("_observe", "observe", "Reach backends, watch what is exported, send a spill."),
    "top": ("_top", "top", "Show the dashboard of a running service in the terminal, live."),
    "wasm": ("_wasm", "wasm", "Look at, sign, verify and run plugins."),
}


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return

    from ._installed import installed

    click.echo(f"hastack {installed('hastack') or '(not installed)'}")
    ctx.exit()


@click.group(
    cls=LazyGroup, commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def app() -> None:
    """Guards, context, config, lifecycle and health for services that must stay up."""

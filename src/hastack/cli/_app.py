"""The root of the ``hastack`` command; each command's module loads when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hastack._core._extras import require

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
    "ebpf": ("_ebpf", "ebpf", "Look into eBPF objects; say what this kernel can do."),
    "logs": ("_logs", "logs", "Make records of log lines; schemas, formats, templates of them."),
    "observe": ("_observe", "observe", "Reach backends, watch what is exported, send a spill."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = home
        command: click.Command = getattr(
            importlib.import_module(f"{__package__}.{module}"), attribute
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return

    from ._machine import installed

    click.echo(f"hastack {installed('hastack') or '(not installed)'}")
    ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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

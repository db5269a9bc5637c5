"""``hastack ebpf``: look into objects, and say what the kernel can do."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from hastack._core._extras import require

if TYPE_CHECKING:
    import click

    from hastack.ebpf import MapSpec, ProgramSpec, Spec
else:
    click = require("click", extra="cli")

__all__ = ("ebpf",)


@click.group()
def ebpf() -> None:
    """Look into eBPF objects; say what this kernel can do."""


@ebpf.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(path: str, as_json: bool) -> None:
    """Print what an object file declares, needs and calls; the kernel is not asked."""
    from hastack.ebpf import open as open_object
    from hastack.errors import MalformedObject

    try:
        spec = open_object(path)
    except MalformedObject as error:
        raise click.ClickException(f"{path}: {error}") from None
    if as_json:
        click.echo(json.dumps(_described(spec), indent=2))
        return
    for line in _lines(spec):
        click.echo(line)


def _described(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "license": spec.license,
        "order": spec.order,
        "programs": {name: _program(each) for name, each in spec.programs.items()},
        "maps": {name: _map(each) for name, each in spec.maps.items()},
        "globals": {
            name: {
                "section": each.section,
                "offset": each.offset,
                "size": each.size,
                "type": each.codec.spelling,
            }
            for name, each in spec.globals.items()
        },
        "relocations": [
            {
                "section": each.section,
                "offset": each.offset,
                "kind": each.kind,
                "type": each.type,
                "access": each.access,
            }
            for each in spec.relocations
        ],
        "kernel_symbols": list(spec.kernel_symbols),
    }


def _program(each: ProgramSpec) -> dict[str, Any]:
    return {
        "section": each.section,
        "type": each.type,
        "attach": each.attach,
        "autoload": each.autoload,
        "instructions": each.instructions,
        "helpers": list(each.helpers),
        "kfuncs": list(each.kfuncs),
        "maps": list(each.maps),
    }


def _map(each: MapSpec) -> dict[str, Any]:
    return {
        "type": each.type,
        "key": each.key.spelling,
        "value": each.value.spelling,
        "max_entries": each.max_entries,
        "flags": each.flags,
        "pinning": each.pinning,
    }


def _lines(spec: Spec) -> list[str]:
    lines = [f"{spec.name}: licence {spec.license or 'none'}, {spec.order}-endian"]
    for program in spec.programs.values():
        kind = program.type or "unknown type"
        asked = "" if program.autoload else ", not loaded unless asked for"
        size = f"{program.instructions} instructions{asked}"
        lines.append(f"program {program.name}: {kind} (section {program.section}), {size}")
        for what, names in (
            ("calls", (*program.helpers, *program.kfuncs)),
            ("uses", (*program.maps, *program.globals)),
        ):
            if names:
                lines.append(f"  {what} {', '.join(names)}")
    for each in spec.maps.values():
        kinds = f"{each.key.spelling} -> {each.value.spelling}"
        lines.append(f"map {each.name}: {each.type}, {kinds}, {each.max_entries} entries")
    lines += [f"global {g.name}: {g.codec.spelling} in {g.section}" for g in spec.globals.values()]
    for place in spec.relocations:
        member = f".{place.access}" if place.access else ""
        lines.append(f"CO-RE {place.kind} {place.type}{member}")
    lines += [f"kernel symbol {name}" for name in spec.kernel_symbols]
    return lines


@ebpf.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def features(as_json: bool) -> None:
    """Say what this kernel can do, found out by trying."""
    from hastack.ebpf import features as probing

    found = probing.survey()
    if as_json:
        named = {each.name: {"there": each.there, "reason": each.reason} for each in found}
        click.echo(json.dumps(named, indent=2))
    else:
        for each in found:
            click.echo(f"{'yes' if each else 'no ':3} {each.name:32} {each.reason}")
    if not any(found):
        sys.exit(1)

"""``hastack ebpf``: build, inspect, load and attach objects; look at maps and at what runs."""

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
    """Build, inspect, load and attach eBPF objects; look at maps and at what runs."""


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


def _refusals() -> tuple[type[Exception], ...]:
    from hastack.errors import EbpfError, InvalidArgument

    return (EbpfError, InvalidArgument, OSError)


def _values(given: tuple[str, ...]) -> dict[str, Any]:
    """``name=value`` pairs; numbers are numbers."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals:
            raise click.UsageError(f"--global {each}: expected name=value")
        try:
            found[name] = int(text, 0)
        except ValueError:
            found[name] = text
    return found


@ebpf.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="The object to write.")
@click.option("--vmlinux", type=click.Path(exists=True), help="vmlinux.h, or BTF to make it from.")
@click.option("--min-btf", type=click.Path(dir_okay=False), help="Write the kernel types it needs.")
@click.option("--flag", "flags", multiple=True, help="A further argument of clang.")
def build(
    source: str,
    output: str | None,
    vmlinux: str | None,
    min_btf: str | None,
    flags: tuple[str, ...],
) -> None:
    """Compile NAME.bpf.c into an object, with clang."""
    from hastack.ebpf import build as compile_object
    from hastack.ebpf import minimal_btf

    try:
        made = compile_object(source, output=output, vmlinux=vmlinux, flags=flags)
        click.echo(f"{made}: {made.stat().st_size:,} bytes")
        if min_btf is not None:
            types = minimal_btf([made], min_btf)
            click.echo(f"{types}: {types.stat().st_size:,} bytes")
    except _refusals() as error:
        raise click.ClickException(str(error)) from None


@ebpf.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--program", "programs", multiple=True, help="Load only these.")
@click.option("--global", "given", multiple=True, help="name=value of a global variable.")
def load(path: str, programs: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Load an object, say what the kernel made of it, and take it out again."""
    from hastack.ebpf import load as load_object

    try:
        with load_object(path, globals=_values(given), programs=programs or None) as obj:
            for program in obj.programs.values():
                info = program.info()
                click.echo(
                    f"{program.name}: {program.type}, {info.verified_instructions} verified, "
                    f"{info.xlated_bytes // 8} instructions, {info.jited_bytes} bytes of code"
                )
    except _refusals() as error:
        raise click.ClickException(str(error)) from None


@ebpf.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--to", "targets", multiple=True, help="PROGRAM=TARGET: where to attach a program.")
@click.option("--global", "given", multiple=True, help="name=value of a global variable.")
@click.option("--ring", help="Print what arrives in this ring buffer.")
@click.option("--seconds", type=float, help="Detach after that time; without it, at Ctrl-C.")
def attach(
    path: str,
    targets: tuple[str, ...],
    given: tuple[str, ...],
    ring: str | None,
    seconds: float | None,
) -> None:
    """Attach an object's programs until Ctrl-C; those named with --to, or all that say where."""
    import time

    from hastack.ebpf import load as load_object

    pairs = [each.partition("=")[::2] for each in targets]
    names = [name for name, _ in pairs] or None
    ends = None if seconds is None else time.monotonic() + seconds
    try:
        with load_object(path, globals=_values(given), programs=names) as obj:
            for name, target in pairs:
                obj.programs[name].attach(target or None)
            for link in obj.links if pairs else obj.attach():
                click.echo(f"attached {link.program.name} to {link.target}")
            reader = obj.ring(ring) if ring else None
            while ends is None or time.monotonic() < ends:
                left = 1.0 if ends is None else max(0.0, min(1.0, ends - time.monotonic()))
                if reader is None:
                    time.sleep(left)
                    continue
                for event in reader.read_batch(timeout=left).objects():
                    click.echo(event)
    except KeyboardInterrupt:
        click.echo("detached")
    except KeyError as error:
        raise click.ClickException(str(error.args[0])) from None
    except _refusals() as error:
        raise click.ClickException(str(error)) from None


@ebpf.group()
def maps() -> None:
    """Read maps that are in the kernel."""


def _entries(which: str) -> tuple[str, list[str]]:
    from hastack.ebpf import Map

    with Map.open(int(which) if which.isdigit() else which) as held:
        return repr(held), [f"{key!r}: {value!r}" for key, value in held.items()]


@maps.command()
@click.argument("which")
def dump(which: str) -> None:
    """Print the entries of a map, named by its id or by its pinned path."""
    try:
        name, lines = _entries(which)
    except _refusals() as error:
        raise click.ClickException(str(error)) from None
    click.echo(name)
    for line in lines:
        click.echo(f"  {line}")


@maps.command()
@click.argument("which")
@click.option("--interval", type=float, default=1.0, show_default=True, help="Seconds.")
@click.option("--count", type=int, help="How many looks; without it, until Ctrl-C.")
def watch(which: str, interval: float, count: int | None) -> None:
    """Print which entries of a map change."""
    import time

    before: set[str] = set()
    looks = 0
    try:
        while count is None or looks < count:
            _, lines = _entries(which)
            now = set(lines)
            for line in sorted(before - now):
                click.echo(f"- {line}")
            for line in sorted(now - before):
                click.echo(f"+ {line}")
            before = now
            looks += 1
            if count is None or looks < count:
                time.sleep(interval)
    except KeyboardInterrupt:
        pass
    except _refusals() as error:
        raise click.ClickException(str(error)) from None


@ebpf.command()
@click.option("--seconds", type=float, default=1.0, show_default=True, help="How long to count.")
def prof(seconds: float) -> None:
    """Count the runs of all programs on this machine, and what they cost."""
    import os
    import time

    from hastack.ebpf import _kernel

    def look() -> dict[int, Any]:
        found = {}
        for number in _kernel.ids("program"):
            try:
                fd = _kernel.open_id("program", number)
            except OSError:  # ended meanwhile
                continue
            try:
                found[number] = _kernel.ProgramInfo(fd)
            finally:
                os.close(fd)
        return found

    try:
        counting = _kernel.count_runs()
        try:
            before = look()
            time.sleep(seconds)
            after = look()
        finally:
            os.close(counting)
    except _refusals() as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{'ID':>6} {'TYPE':20} {'NAME':16} {'RUNS/S':>12} {'NS/RUN':>8} {'CPU %':>7}")
    for number, info in after.items():
        earlier = before.get(number)
        runs = info.runs - (earlier.runs if earlier else 0)
        spent = info.run_ns - (earlier.run_ns if earlier else 0)
        each, share = (spent / runs if runs else 0), spent / seconds / 1e7
        click.echo(
            f"{number:>6} {info.type:20} {info.name:16} {runs / seconds:>12,.0f} "
            f"{each:>8,.0f} {share:>7.3f}"
        )


@ebpf.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def features(as_json: bool) -> None:
    """Say what this kernel can do, found out by trying."""
    from hastack.ebpf import features as probing

    require("cffi", extra="ebpf")  # without it each of them would say so
    found = probing.survey()
    if as_json:
        named = {each.name: {"there": each.there, "reason": each.reason} for each in found}
        click.echo(json.dumps(named, indent=2))
    else:
        for each in found:
            click.echo(f"{'yes' if each else 'no ':3} {each.name:32} {each.reason}")
    if not any(found):
        sys.exit(1)

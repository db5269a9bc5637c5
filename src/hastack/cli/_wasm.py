"""``hastack wasm``: look at plugins, sign and verify them, run them, check audit logs."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from hastack import wasm as plugins
from hastack._core._extras import require
from hastack.errors import HastackError

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
else:
    click = require("click", extra="cli")

__all__ = ("wasm",)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Group(click.Group):
    """Says what went wrong in one line, and ends with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HastackError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group)
def wasm() -> None:
    """Look at, sign, verify and run WebAssembly plugins."""


def _trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--signer",
            "signers",
            multiple=True,
            metavar="WHO:ROLE:KEY",
            help="A public key that counts; KEY is a PEM file. Repeat it.",
        ),
        click.option(
            "--require",
            "required",
            multiple=True,
            metavar="ROLE=N",
            help="How many persons of a role must have signed. [default: author=1]",
        ),
        click.option("--signature", type=_FILE, help="A detached signature."),
        click.option("--name", help="Name of the plugin. [default: of the file]"),
    ):
        command = option(command)
    return command


def _policy(signers: tuple[str, ...], required: tuple[str, ...]) -> plugins.Trust:
    people = []
    for text in signers:
        who, _, rest = text.partition(":")
        role, _, path = rest.partition(":")
        if not (who and role and path):
            raise click.UsageError(f"--signer {text}: expected WHO:ROLE:KEY")
        people.append(plugins.Signer(plugins.PublicKey.from_pem(_bytes(path)), who, role))
    require_: dict[str, int] = {}
    for text in required:
        role, _, count = text.partition("=")
        if not role or not count.isdigit():
            raise click.UsageError(f"--require {text}: expected ROLE=N")
        require_[role] = int(count)
    if not people:
        raise click.UsageError("--signer says whose signature counts; run has --unsigned, too")
    return plugins.Trust(people, require=require_ or None)


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None


@wasm.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def inspect(file: Path, as_json: bool) -> None:
    """What a module wants, offers and holds; nothing of it is compiled."""
    from hastack.wasm._signature import parse

    data = file.read_bytes()
    facts = plugins.inspect(data)
    manifest = plugins.manifest_of(data)
    signature, _ = plugins.detach(data)
    keys = sorted(
        {s.key_id.hex() for one in parse(signature) for s in one.signatures} if signature else ()
    )
    if as_json:
        found = {**attrs.asdict(facts), "signed_by": keys}
        found["manifest"] = None if manifest is None else attrs.asdict(manifest)
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{file}: {facts.size:,} bytes")
    for wanted in facts.imports:
        click.echo(f"  import  {wanted}")
    for offered in facts.exports:
        click.echo(f"  export  {offered.name}: {offered.kind} {offered.type}".rstrip())
    for least, most in facts.memories:
        click.echo(
            f"  memory  {least:,} bytes, {'no maximum' if most is None else f'at most {most:,}'}"
        )
    for name, count in facts.counts.items():
        click.echo(f"  {name:<15} {count:,}")
    if manifest is not None:
        click.echo(f"  manifest  {manifest.to_bytes().decode()}")
    click.echo(f"  signed by {', '.join(keys) or 'nobody'}")


@wasm.command()
@click.argument("file", type=_FILE)
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="Another limit.")
def lint(file: Path, limits: tuple[str, ...]) -> None:
    """Compare a module with the limits; ends with 1 when it exceeds one."""
    from hastack.wasm._admission import admit

    admit(file.read_bytes(), _limits(limits))
    click.echo(f"{file}: within its limits")


def _limits(texts: tuple[str, ...]) -> plugins.Limits:
    known = {field.name: field for field in attrs.fields(plugins.Limits)}
    given: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known or not value:
            raise click.UsageError(f"--limit {text}: expected NAME=VALUE of {', '.join(known)}")
        seconds = isinstance(known[name].default, float)
        try:
            given[name] = float(value) if seconds else int(value) if value.isdigit() else value
        except ValueError:
            raise click.UsageError(f"--limit {text}: not a number") from None
    return plugins.Limits(**given)


@wasm.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--algorithm", type=click.Choice(["ed25519", "p384"]), default="ed25519")
@click.option("--show", is_flag=True, help="Only say what a key is that is there already.")
def keys(path: Path, algorithm: str, show: bool) -> None:
    """Make a key: PATH for the one that signs, PATH.pub for the one that verifies."""
    if not show:
        key = plugins.PrivateKey.generate(algorithm)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise click.UsageError(f"{path} is there already") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.to_pem())
        path.with_name(f"{path.name}.pub").write_bytes(key.public.to_pem())
        click.echo(f"{key.public.algorithm} {key.public.id}")
        return
    pem = _bytes(path)
    private = b"PRIVATE" in pem
    public = plugins.PrivateKey.from_pem(pem).public if private else plugins.PublicKey.from_pem(pem)
    click.echo(f"{public.algorithm} {public.id}")


@wasm.command()
@click.argument("file", type=_FILE)
@click.option("--key", type=_FILE, required=True, help="The private key, in PEM.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: FILE itself]")
@click.option("--detached", is_flag=True, help="Write the signature alone, FILE.sig by default.")
@click.option("--name", help="Give it a manifest with this name; signatures so far are dropped.")
@click.option("--svn", type=int, default=0, help="Security version number for the manifest.")
def sign(
    file: Path, key: Path, out: Path | None, detached: bool, name: str | None, svn: int
) -> None:
    """Sign a module; signatures that it has stay."""
    data = file.read_bytes()
    if name is not None:
        data = plugins.with_manifest(data, name=name, svn=svn)
        if detached:
            raise click.UsageError("--name changes the module: sign it without --detached")
    signer = plugins.PrivateKey.from_pem(key.read_bytes())
    if out is None:
        out = file.with_suffix(".sig") if detached else file
    before = out.read_bytes() if detached and out.exists() else None
    out.write_bytes(plugins.sign(data, signer, detached=detached, beside=before))
    click.echo(f"{out}: signed with {signer.public.id}")


@wasm.command()
@click.argument("ids", nargs=-1)
@click.option("--key", type=_FILE, required=True, help="The private key, in PEM.")
@click.option("--serial", type=int, required=True, help="Higher than that of the list before.")
@click.option("--days", type=float, help="After that, nothing is trusted without a newer list.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to write it.")
def revoke(ids: tuple[str, ...], key: Path, serial: int, days: float | None, out: Path) -> None:
    """Sign a list of what no longer counts: IDS of keys, and digests of modules."""
    signer = plugins.PrivateKey.from_pem(key.read_bytes())
    expires = None if days is None else time.time() + days * 86_400.0
    out.write_bytes(plugins.revoke(ids, signer, serial=serial, expires=expires))
    click.echo(f"{out}: list {serial}, {len(set(ids))} entries")


@wasm.command()
@click.argument("file", type=_FILE)
@_trust_options
def verify(
    file: Path,
    signers: tuple[str, ...],
    required: tuple[str, ...],
    signature: Path | None,
    name: str | None,
) -> None:
    """Check who signed a module; ends with 1 unless it is as demanded."""
    beside = signature.read_bytes() if signature is not None else None
    found = _policy(signers, required).verify(
        file.read_bytes(), name=name or file.stem, signature=beside
    )
    click.echo(f"{found.digest}  signed by {', '.join(found.identities)}")


def _loaded(
    file: Path,
    signers: tuple[str, ...],
    required: tuple[str, ...],
    signature: Path | None,
    name: str | None,
    unsigned: bool,
    limits: tuple[str, ...],
    **options: Any,
) -> plugins.Plugin:
    trust = plugins.Unsigned() if unsigned else _policy(signers, required)
    beside = signature.read_bytes() if signature is not None else None
    return plugins.load(
        file,
        trust=trust,
        signature=beside,
        name=name or file.stem,
        limits=_limits(limits),
        **options,
    )


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A limit."),
        click.option("--unsigned", is_flag=True, help="Run what nobody signed."),
        click.option("--call", "function", metavar="NAME", help="Call an exported function."),
    ):
        command = option(command)
    return _trust_options(command)


@wasm.command()
@click.argument("file", type=_FILE)
@click.argument("args", nargs=-1)
@_run_options
@click.option(
    "--dir", "folders", multiple=True, metavar="NAME=PATH[:rw]", help="A folder that it may read."
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    file: Path,
    args: tuple[str, ...],
    function: str | None,
    folders: tuple[str, ...],
    **how: Any,
) -> None:
    """Run a WASI command with ARGS, or call one function with numbers or text."""
    settings = plugins.Wasi(args=(file.name, *args), files=_granted(folders))
    with _loaded(file, **how, wasi=settings) as plugin:
        if function is not None:
            click.echo(_shown(plugin.call(function, *_arguments(plugin, args))))
            return
        stdin = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
        done = plugin.run(stdin=stdin)
    for stream, data in ((sys.stdout, done.stdout), (sys.stderr, done.stderr)):
        stream.buffer.write(data)
        stream.flush()
    ctx.exit(done.status & 0xFF)


def _granted(texts: tuple[str, ...]) -> dict[str, plugins.Directory]:
    found = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path:
            raise click.UsageError(f"--dir {text}: expected NAME=PATH or NAME=PATH:rw")
        write = path.endswith(":rw")
        found[name] = plugins.Directory(path.removesuffix(":rw"), write=write)
    return found


def _arguments(plugin: plugins.Plugin, args: tuple[str, ...]) -> list[Any]:
    """Numbers are numbers; to a policy and to an Extism plug-in all is text."""
    if plugin.abi in {"http", "extism"}:
        return [text.encode() for text in args]
    found: list[Any] = []
    for text in args:
        try:
            found.append(int(text))
        except ValueError:
            try:
                found.append(float(text))
            except ValueError:
                found.append(text)
    return found


def _shown(result: Any) -> str:
    return result.decode(errors="replace") if isinstance(result, bytes) else str(result)


@wasm.command()
@click.argument("file", type=_FILE)
@click.argument("args", nargs=-1)
@click.option("--seconds", type=click.FloatRange(0.01, 60.0), default=1.0, help="How long.")
@_run_options
def bench(
    file: Path, args: tuple[str, ...], function: str | None, seconds: float, **how: Any
) -> None:
    """Measure calls of one function."""
    if function is None:
        raise click.UsageError("--call says which function")
    with _loaded(file, **how) as plugin:
        given = _arguments(plugin, args)
        call = plugin.call
        count, best = 0, float("inf")
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            begun = time.perf_counter()
            for _ in range(100):
                call(function, *given)
            best = min(best, (time.perf_counter() - begun) / 100)
            count += 100
    click.echo(f"{count:,} calls, {best * 1e6:.2f} us for one at best")


@wasm.group()
def audit() -> None:
    """Audit logs."""


@audit.command("verify")
@click.argument("file", type=_FILE)
@click.option("--key", "paths", multiple=True, type=_FILE, help="A public key that signs heads.")
def audit_verify(file: Path, paths: tuple[Path, ...]) -> None:
    """Check a log; names the first line that is not what was written, and ends with 1."""
    known = [plugins.PublicKey.from_pem(path.read_bytes()) for path in paths]
    found = plugins.audit_verify(file, known or None)
    click.echo(f"{found.lines} lines, signed up to line {found.signed}; head {found.head}")

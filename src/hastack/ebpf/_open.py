"""From files to objects in the kernel: what a caller may wish, checked and carried out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hastack._core._errors import InvalidArgument, PolicyViolation, Unsupported

from . import _loading, _pins, _readback
from ._object import Object
from ._spec import Spec, read
from .features import has

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._maps import Map
    from ._policy import Policy
    from ._signing import Strict

__all__ = ("load", "open")


def open(source: str | Path | bytes, *, name: str | None = None) -> Spec:  # noqa: A001  # opens objects
    """Read an object file, without the kernel: what it declares, needs and calls.

    Args:
        source: Path of the file, or its content.
        name: What to call it; without one, the file's name before its first dot.

    Raises:
        MalformedObject: It is no eBPF object that could be loaded.
        OSError: The file cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read(bytes(source), name or "object")
    if not isinstance(source, (str, os.PathLike)):
        raise InvalidArgument("source", source, "a path, or the bytes of an object file")
    path = Path(source)
    return read(path.read_bytes(), name or path.name.partition(".")[0] or "object")


def load(
    source: Spec | str | Path | bytes,
    *,
    name: str | None = None,
    globals: Mapping[str, Any] | None = None,  # noqa: A002  # what C calls them
    programs: Iterable[str] | None = None,
    max_entries: Mapping[str, int] | None = None,
    reuse: Mapping[str, Map] | None = None,
    inner: Mapping[str, Map] | None = None,
    pin_root: str | Path | None = None,
    on_incompatible: str = "fail",
    btf: str | Path | None = None,
    strict: Strict | None = None,
    signature: bytes | str | Path | None = None,
) -> Object:
    """Load an object into the kernel.

    Args:
        source: An object file: its path, its content, or what `open` made of it.
        name: What to call it; without one, the file's name before its first dot.
        globals: Values of global variables, by name; the only moment to set constants.
        programs: Names of the programs to load; without it, all but those whose section starts
            with a question mark.
        max_entries: Sizes of maps, by name.
        reuse: Maps to use instead of new ones, by name; their shape must be the same.
        inner: For maps of maps that do not say what they hold: a map like those, by name.
        pin_root: Folder in a BPF file system for maps that the object declares as pinned by name.
            Without it they are not pinned.
        on_incompatible: What to do with a pinned map of another shape: ``"fail"``, ``"recreate"``
            (its entries are lost) or ``"migrate"`` (entries are copied as far as they fit).
        btf: File with the types of the kernel, for kernels that do not bring them.
        strict: Refuse what is not signed or does what is forbidden, and compare what the kernel
            holds with what was meant.
        signature: For strict loading, what `sign` made: its path or its content.

    Raises:
        MalformedObject: It is no eBPF object.
        SignatureInvalid: Strict loading wants a signature that is not there or not good.
        PolicyViolation: Strict loading forbids what the object does.
        VerifierError: The verifier rejected a program.
        KernelRefused: The kernel refused something else.
        MapIncompatible: A map to be used has another shape.
        Unsupported: There is no libbpf, or the kernel lacks something.
        MissingDependency: cffi is not installed.
    """
    spec = source if isinstance(source, Spec) else open(source, name=name)
    for which, given in (("max_entries", max_entries), ("reuse", reuse), ("inner", inner)):
        for each in given or {}:
            if each not in spec.maps:
                known = ", ".join(spec.maps) or "nothing"
                raise InvalidArgument(f"{which}[{each!r}]", each, f"a map of the object: {known}")
    policy = None
    if strict is not None:
        policy = _admit(spec, strict, signature, reuse or {})
    sizes = max_entries or {}
    chosen = _chosen(spec, programs)
    with _pins.plan(spec, pin_root, on_incompatible, sizes) as pins:
        for each, held in (reuse or {}).items():
            _pins.require_same(spec.maps[each], held, sizes.get(each))
        made = _load(
            spec,
            chosen,
            globals or {},
            sizes,
            {**pins.reused, **{each: held.fd for each, held in (reuse or {}).items()}},
            inner={each: held.fd for each, held in (inner or {}).items()},
            btf=os.fspath(btf) if btf else "",
        )
        try:
            if strict is not None:
                _readback.compare(made, policy)
            pins.settle(made.maps)
        except BaseException:
            made.close()
            raise
        made._strict = strict
        return made


def _admit(
    spec: Spec,
    strict: Strict,
    signature: bytes | str | Path | None,
    reuse: Iterable[str],
) -> Policy:
    """Refuse what is not signed, or does what the policy forbids, before the kernel sees it."""
    held = Path(signature).read_bytes() if isinstance(signature, (str, Path)) else signature
    policy = strict.check(spec.content, held)
    pinned = {name for name, each in spec.maps.items() if each.pinning != "none"}
    found = policy.violations(spec, foreign={*reuse, *pinned})
    if found:
        raise PolicyViolation(found)
    return policy


def _load(
    spec: Spec,
    chosen: Sequence[str],
    values: Mapping[str, Any],
    sizes: Mapping[str, int],
    reuse: Mapping[str, int],
    *,
    inner: Mapping[str, int],
    btf: str,
) -> Object:
    """Load what was checked."""
    types = {
        each: "trace_uprobe_multi"
        for each in chosen
        if spec.programs[each].section.lstrip("?").partition("/")[0].removesuffix(".s")
        in {"uprobe", "uretprobe", "usdt"}
        and has("link:uprobe_multi")
    }
    wishes = _loading.Wishes(
        data=_loading.with_values(spec, values),
        programs=frozenset(chosen),
        entries=sizes,
        reuse=reuse,
        inner=inner,
        types=types,
        btf=btf,
    )
    made = Object(spec, _loading.load(spec, wishes), types)
    made._values, made._sizes, made._btf = dict(values), dict(sizes), btf
    return made


def _chosen(spec: Spec, programs: Iterable[str] | None) -> list[str]:
    if programs is None:
        chosen = [each.name for each in spec.programs.values() if each.autoload]
    else:
        chosen = list(programs)
        for each in chosen:
            if each not in spec.programs:
                known = ", ".join(spec.programs) or "nothing"
                raise InvalidArgument("programs", each, f"programs of the object: {known}")
    for each in chosen:
        if not spec.programs[each].type:
            section = spec.programs[each].section
            raise Unsupported(
                f"program {each}", f"its section {section!r} stands for no program type"
            )
    return chosen

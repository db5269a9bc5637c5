"""Loading a module, and calling it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, final

from hastack._core import _validate
from hastack._core._alive import track
from hastack._core._cancel import BACKGROUND, _current
from hastack._core._errors import InvalidArgument, ModuleRefused, PoolExhausted, Trap, WasmError

from . import _events, _signatures
from ._abi import adapt
from ._admission import admit, excesses
from ._batch import Batch
from ._capi import library
from ._code import Code, grants_of
from ._compile import compiled, compiler
from ._engine import engine
from ._fiber import run
from ._limits import Limits
from ._pool import Pool
from ._trust import Trust, Unsigned

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from ._abi._wasi import Output, Wasi
    from ._cache import Cache, Kept
    from ._instance import Instance
    from ._reader import Facts
    from ._trust import Verified

__all__ = ("Plugin", "load", "wat")

FIBERS: Final = 16

_LARGE: Final = 256 << 10
"""Bytes of a module that is worth a thread for its digest."""


@final
class Plugin:
    """A module that was loaded, with its instances. Made by `load`; any thread may call it.

    Attributes:
        name: Its name, in errors and events.
        digest: SHA-256 of its bytes, in hexadecimal.
        facts: What is known about it: imports, exports, counts.
        limits: What each instance may use.
        abi: ``"plain"``, ``"http"``, ``"wasi"`` or ``"extism"``.
        verified: What its trust policy found; ``None`` for `Unsigned`.

    Example:
        >>> from hastack import wasm
        >>> code = wasm.wat('''(module (func (export "add") (param i32 i32) (result i32)
        ...   (i32.add (local.get 0) (local.get 1))))''')
        >>> plugin = wasm.load(code, trust=wasm.Unsigned())
        >>> plugin.call("add", 2, 3)
        5
    """

    def __init__(self, name: str, digest: str, code: Any, *, instances: int, fresh: bool) -> None:
        self.name = name
        self.digest = digest
        self.facts: Facts = code.facts
        self.limits: Limits = code.limits
        self.abi: str = code.abi.name
        self.verified: Verified | None = None
        self._code: Code = code
        self._fresh = fresh
        self._pool = Pool(code, instances, fiber=False, name=name)
        self._fibers = Pool(code, min(instances, FIBERS), fiber=True, name=name)
        # For the way of each call: what is looked up beforehand costs nothing there.
        self._take = self._pool.idle.pop
        self._give = self._pool.idle.append
        self._once = fresh  # or closed
        self._batches: dict[str, Batch] = {}
        track(self)

    @property
    def instances(self) -> int:
        """How many instances there are now."""
        return self._pool.made + self._fibers.made

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._pool.closed

    def call(self, name: str, *args: Any) -> Any:
        """Call an exported function.

        What a guest leaves in its memory and globals is there at the next call of the same
        instance, unless the plugin was loaded with ``fresh=True``. An instance that trapped is
        thrown away.

        Args:
            name: Name of the export.
            *args: One for each parameter of its signature.

        Returns:
            Its result; a tuple when there are several, ``None`` when there is none.

        Raises:
            InvalidArgument: There is no such function, or an argument does not fit it.
            GuestDeadline: It ran longer than the limit; `DeadlineExceeded` when it was the
                context's deadline that passed.
            Trap: It did what it may not.
            PoolExhausted: All instances are busy.
            OutOfBounds: It returned a place that is not in its memory.
            ClosedError: The plugin was closed.
        """
        now = monotonic()
        try:
            instance = self._take()
        except IndexError:
            instance = self._pool.another()
        try:
            if now >= instance.fresh_until or _current.get() is not BACKGROUND:
                instance.prepare(now)
            enter = instance.entries.get(name)
            result = enter(args) if enter is not None else instance.bind(name).enter(args)
        except BaseException as error:
            self._back(instance, error)
            raise
        if self._once:
            self._pool.drop(instance)
        else:
            self._give(instance)
        return result

    async def call_async(self, name: str, *args: Any) -> Any:
        """Like `call`, beside everything else on the event loop.

        The guest runs on a stack of its own, on this thread. At each tick of a millisecond it
        gives way to the loop and goes on at its next turn; it is thrown away when its deadline
        passes or the awaiting task is cancelled. Its instances are apart from those of `call`, and
        when all of them are busy it waits for one, as long as a call may take at most.
        """
        try:
            instance = self._fibers.idle.pop()
        except IndexError:
            instance = await self._in_turn()
        try:
            result = await run(instance, name, args)
        except BaseException as error:
            self._back(instance, error, self._fibers)
            raise
        if self._once:
            self._fibers.drop(instance)
        else:
            self._fibers.idle.append(instance)
        return result

    async def _in_turn(self) -> Instance:
        """An instance for a call beside the loop.

        Whoever is busy gives way at each tick, so that more calls than instances are begun on one
        loop as a matter of course: refusing them would refuse a burst of any size above that.
        """
        from asyncio import sleep

        limit = self._code.limits.deadline
        left = _current.get(BACKGROUND).remaining()
        until = monotonic() + (limit if left is None else min(limit, left))
        while True:
            try:
                return self._fibers.another()
            except PoolExhausted:
                if monotonic() >= until:
                    raise
            await sleep(0)

    def call_many(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function many times in one crossing; for functions of numbers and bytes.

        The whole batch has the deadline of one call, runs in one instance, and fails as a whole.

        Args:
            name: Name of the export; it must return one ``i32``, or nothing.
            calls: The arguments of each call.

        Returns:
            The results, in order.

        Raises:
            InvalidArgument: The function or an argument does not fit.
            WasmError: As with `call`.
        """
        batch = self._batches.get(name)
        if batch is None:
            batch = self._batches[name] = Batch(self._code, name)
        try:
            instance = self._take()
        except IndexError:
            instance = self._pool.another()
        try:
            instance.prepare(monotonic())
            results = batch.run(instance, calls)
        except BaseException as error:
            self._back(instance, error)
            raise
        if self._once:
            self._pool.drop(instance)
        else:
            self._give(instance)
        return results

    def function(self, name: str, signature: str | None = None) -> Callable[..., Any]:
        """A callable for one function, checked now.

        Args:
            name: Name of the export.
            signature: What it must look like to callers; by default whatever it is.

        Raises:
            InvalidArgument: There is no such function, or it has another signature.
        """
        found = self._code.signature(name)
        if signature is not None:
            wanted = _signatures.parse(signature)
            if (found.parameters, found.results) != wanted:
                raise InvalidArgument(name, signature, f"the signature {found}")

        def call(*args: Any) -> Any:
            return self.call(name, *args)

        call.__name__ = call.__qualname__ = name
        return call

    def allow(self, method: bytes, path: bytes) -> bool:
        """Ask an HTTP policy, ``on_http_request(method*, path*, len)``; only 1 is a yes.

        Raises:
            WasmError: As with `call`; whoever asks decides what that means.
        """
        return bool(self.call("on_http_request", method, path) == 1)

    async def allow_async(self, method: bytes, path: bytes) -> bool:
        """Like `allow`, beside everything else on the event loop."""
        return bool(await self.call_async("on_http_request", method, path) == 1)

    def run(self, *, args: Sequence[str] | None = None, stdin: bytes = b"") -> Output:
        """Run a WASI command, in an instance of its own that is freed after it.

        Args:
            args: Its arguments; by default those of the `Wasi` that it was loaded with.
            stdin: What it may read.

        Returns:
            Its status, and what it wrote.

        Raises:
            InvalidArgument: The module is no command.
            WasmError: As with `call`; a status other than 0 is none.
        """
        from ._abi._wasi import run

        if not self._code.abi.command:
            raise InvalidArgument("plugin", self.name, "a WASI command: it has no _start")
        instance = self._pool.another()
        try:
            return run(instance, args, stdin)
        except Trap as error:
            self._trapped(error)
            raise
        finally:
            self._pool.drop(instance)

    def warm(self, count: int = 1) -> None:
        """Have ``count`` instances ready for `call`."""
        self._pool.warm(count)

    def close(self) -> None:
        """Take no more calls and free the instances; what is under way ends as it would."""
        self._once = True
        self._pool.close()
        self._fibers.close()

    def __enter__(self) -> Plugin:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Plugin {self.name!r} {self.digest[:12]} {self.abi}>"

    def _back(self, instance: Instance, error: BaseException, pool: Pool | None = None) -> None:
        """Where an instance goes after a call that failed."""
        pool = pool or self._pool
        if not instance.broken and not self._once:
            pool.idle.append(instance)
            return
        pool.drop(instance)
        if isinstance(error, Trap):
            self._trapped(error)

    def _trapped(self, error: Trap) -> None:
        if _events.TRAPPED.subscribers:
            _events.TRAPPED.publish(
                _events.PluginTrapped(plugin=self.name, digest=self.digest, detail=str(error))
            )


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    trust: Trust | Unsigned | None = None,
    limits: Limits | None = None,
    imports: Mapping[str, Mapping[str, Any]] | None = None,
    functions: Mapping[str, str] | None = None,
    name: str | None = None,
    signature: bytes | None = None,
    instances: int = 32,
    warm: int = 1,
    fresh: bool = False,
    cache: Cache | None = None,
    isolate_compiler: bool = True,
    wasi: Wasi | None = None,
    config: Mapping[str, str] | None = None,
    accept: bool = True,
) -> Plugin:
    """Verify, admit, compile and link a module.

    In this order: the file is read once; its signatures are checked; its structure is compared
    with the limits; another process compiles those same bytes; imports are linked with what was
    granted; one instance is made, so that a start function that fails is known now.

    Args:
        source: Path of the module, or its bytes.
        trust: Who must have signed it. `Unsigned` loads what nobody signed; there is no default.
        limits: What each instance may use; `Limits` with its defaults when left out.
        imports: Functions granted to it, by module and name; see `host`.
        functions: Signatures for exports that take or return bytes or strings, ``{"greet": "(str)
            -> str"}``.
        name: For errors, events and trust; by default the name of the file.
        signature: A detached signature, when it is not inside the module.
        instances: How many instances there may be at a time.
        warm: How many are made beforehand.
        fresh: Whether each call gets an instance of its own, which is freed after it.
        cache: Where compiled code is kept.
        isolate_compiler: Whether another process compiles, which is killed when it takes too long.
            Without, compiling hostile code may stall this one.
        wasi: What a WASI module gets; by default nothing but standard streams of its own.
        config: Configuration that an Extism plug-in may read.
        accept: Whether its security version becomes the lowest that is accepted, when the trust
            policy has `Floors`. `Swap` does that when a version has proved itself.

    Raises:
        NotTrusted: It is not signed as demanded.
        InvalidModule: It is no module.
        ModuleRefused: It exceeds its limits.
        CompileFailed: Compiling took too long or too much memory.
        UnresolvedImports: It imports what was not granted.
        WasmError: Its start function failed.
    """
    limits = limits or Limits()
    data, name = _read(source, name, limits)
    _validate.integer("instances", instances)
    _validate.integer("warm", warm, minimum=0)
    grants = grants_of(imports)
    find_digest = _digesting(data)
    verified, facts, artefact = _admitted(
        data, find_digest, name, trust=trust, signature=signature, limits=limits, cache=cache
    )
    digest = find_digest()
    adapted = adapt(facts, grants, functions or {}, wasi=wasi, config=config)
    if artefact is not None:
        module = compiled(artefact.raw, limits, artefact.start)
    elif isolate_compiler:
        made = compiler.compile(data, limits)
        if cache is not None:
            cache.keep(digest, limits, facts, made)
        module = compiled(made, limits)
    else:
        module = library().module(engine(limits.stack).handle, data)
    if _events.COMPILED.subscribers:
        _events.COMPILED.publish(_events.PluginCompiled(plugin=name, digest=digest))
    code = Code(module, facts, limits, adapted)
    plugin = Plugin(name, digest, code, instances=instances, fresh=fresh)
    # A command runs when it is called, and once.
    plugin.warm(0 if adapted.command else min(max(warm, 1), instances))
    plugin.verified = verified
    if accept and verified is not None:
        assert isinstance(trust, Trust)
        trust.accepted(name, verified)
    if _events.ACTIVATED.subscribers:
        _events.ACTIVATED.publish(_events.PluginActivated(plugin=name, digest=digest))
    return plugin


def _digesting(data: bytes) -> Callable[[], str]:
    """The digest of a module, found beside whatever else is done meanwhile."""
    if len(data) < _LARGE:
        known = hashlib.sha256(data).hexdigest()
        return lambda: known
    found: list[str] = []

    def find() -> None:
        found.append(hashlib.sha256(data).hexdigest())  # lets go of the interpreter

    thread = threading.Thread(target=find, name="hastack-wasm-digest")
    try:
        thread.start()
    except RuntimeError:  # no more threads
        find()
        return lambda: found[0]

    def wait() -> str:
        thread.join()
        return found[0]

    return wait


def _admitted(
    data: bytes,
    find_digest: Callable[[], str],
    name: str,
    *,
    trust: Trust | Unsigned | None,
    signature: bytes | None,
    limits: Limits,
    cache: Cache | None,
) -> tuple[Verified | None, Facts, Kept | None]:
    """Everything that is decided before anything is compiled."""
    verified = artefact = None
    try:
        if len(data) > limits.module_bytes:
            raise ModuleRefused([f"module_bytes {len(data):,}, at most {limits.module_bytes:,}"])
        if isinstance(trust, Trust):
            verified = trust._judge(data, find_digest, name, signature)
            if _events.VERIFIED.subscribers:
                signed_by, digest = ", ".join(verified.identities), find_digest()
                _events.VERIFIED.publish(
                    _events.PluginVerified(plugin=name, digest=digest, detail=signed_by)
                )
        elif not isinstance(trust, Unsigned):
            raise InvalidArgument("trust", trust, "a Trust, or Unsigned() for what nobody signed")
        found = cache.find(find_digest(), limits) if cache is not None else None
        if found is None:
            return verified, admit(data, limits), None
        facts, artefact = found
        reasons = excesses(facts, limits)  # it may have been kept under other limits
        if reasons:
            raise ModuleRefused(reasons)
        return verified, facts, artefact
    except WasmError as error:
        if _events.REFUSED.subscribers:
            _events.REFUSED.publish(
                _events.PluginRefused(plugin=name, digest=find_digest(), detail=str(error))
            )
        raise


def wat(text: str) -> bytes:
    r"""Assemble the text form of a module; for tests and small drivers.

    Raises:
        InvalidModule: It is not valid.

    Example:
        >>> from hastack import wasm
        >>> wasm.wat("(module)")[:4]
        b'\x00asm'
    """
    return library().wat(text)


def _read(
    source: str | os.PathLike[str] | bytes, name: str | None, limits: Limits
) -> tuple[bytes, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), name or "plugin"
    path = Path(source)
    with path.open("rb") as file:
        data = file.read(limits.module_bytes + 1)
    if len(data) > limits.module_bytes:
        raise ModuleRefused([f"module_bytes, at most {limits.module_bytes:,}"])
    return data, name or path.stem

"""Changing a plugin while it is in use: no call is lost, none is answered by two versions."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from hastack._core import _validate
from hastack._core._errors import ClosedError, InvalidArgument, WasmError
from hastack._core._fork import renew_in_child
from hastack._core._whole_file import replace

from . import _events
from ._offer import Offer
from ._plugin import Plugin, load
from ._rollout import BAD, GOOD, Plan, Rollout
from ._trust import Trust

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ._limits import Limits

    Source = str | os.PathLike[str] | Callable[[], bytes | tuple[bytes, bytes | None] | None]

__all__ = ("Swap",)

_LOG = logging.getLogger("hastack.wasm")

_BACKOFF = (0.1, 30.0)
"""Seconds before a plugin that failed is made anew, the first time and at most."""


@attrs.define
class _Version:
    plugin: Plugin
    data: bytes
    signature: bytes | None


@final
class Swap:
    """A plugin whose code can be changed under load.

    A call keeps to the version that it began with. A new version is verified, compiled and warmed
    beside the old one, goes through the `Plan`, and takes over when it is through and healthy; one
    that fails goes, and the old one never stopped.

    With ``state``, the last good version is kept on disk: a process that was killed at any point
    comes back with it, and never with one that had not proved itself.

    Args:
        name: Name of the plugin, in manifests, files and events.
        trust: As for `load`.
        plan: What a new version has to get through; by default it takes over at once.
        health: Called with a new plugin before it answers anything, and again before it is the one;
            it is bad when that raises or returns ``False``.
        state: Directory for the last good version.
        fail: What `allow` says when the plugin fails: ``"closed"`` no, ``"open"`` yes,
            ``"reload"`` no, while the plugin is made anew after a growing pause.
        **options: Everything else goes to `load`.

    Raises:
        InvalidArgument: An option is none of these.
        NotTrusted: The version on disk is no longer trusted.

    Example:
        >>> from hastack import wasm
        >>> def version(n: int) -> bytes:
        ...     return wasm.wat(f'(module (func (export "v") (result i32) (i32.const {n})))')
        >>> swap = wasm.Swap("demo", trust=wasm.Unsigned())
        >>> swap.offer(version(1)); swap.call("v")
        1
        >>> swap.offer(version(2)); swap.call("v")
        2
        >>> swap.close()
    """

    def __init__(
        self,
        name: str,
        *,
        trust: Any,
        plan: Plan | None = None,
        health: Callable[[Plugin], object] | None = None,
        state: str | os.PathLike[str] | None = None,
        fail: str = "closed",
        **options: Any,
    ) -> None:
        self.name = self._name = _validate.text("name", name)
        if fail not in {"closed", "open", "reload"}:
            raise InvalidArgument("fail", fail, '"closed", "open" or "reload"')
        self._trust = trust
        self._plan = plan or Plan()
        self._health = health
        self._fail = fail
        self._options = options
        self._lock = threading.Lock()
        self._offers = threading.Lock()  # one offer at a time; calls never wait for it
        self._active: _Version | None = None
        self._candidate: _Version | None = None
        self._rollout: Rollout | None = None
        self._closed = False
        self._reload_at = 0.0
        self._pause = _BACKOFF[0]
        self._last = ""
        self._state = Path(state) if state is not None else None
        renew_in_child(self)
        if self._state is not None:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._restore(self._state)

    @property
    def digest(self) -> str | None:
        """Digest of the version that answers; ``None`` before the first."""
        active = self._active
        return None if active is None else active.plugin.digest

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._closed

    @property
    def phase(self) -> str | None:
        """Where a new version is on its plan; ``None`` when there is none."""
        rollout = self._rollout
        return None if rollout is None else rollout.phase

    def offer(self, source: str | os.PathLike[str] | bytes, signature: bytes | None = None) -> None:
        """Bring a new version. It takes over at once, or starts on its plan.

        Args:
            source: Path of the module, or its bytes.
            signature: A detached signature.

        Raises:
            WasmError: It was refused, does not load, or is not healthy; the old one goes on.
            ClosedError: This was closed.
        """
        with self._offers:
            if self._closed:
                raise ClosedError(self._name)
            data = source if isinstance(source, bytes) else _content(source, self._options)
            if self._same(data):
                return
            version = self._made(data, signature)
            try:
                self._require_healthy(version.plugin)
                self._keep(version)
            except BaseException as error:
                version.plugin.close()
                self._refused(version, str(error))
                raise
            with self._lock:
                dropped, self._candidate = self._candidate, version
                self._rollout = Rollout(self._plan if self._active is not None else Plan())
            if dropped is not None:
                dropped.plugin.close()
            self._settle()

    def prepare(
        self,
        source: str | os.PathLike[str] | bytes,
        signature: bytes | None = None,
        *,
        trust: Any = None,
        limits: Limits | None = None,
    ) -> Offer:
        """Make a version ready that takes over when it is told to, past any plan.

        Args:
            source: Path of the module, or its bytes.
            signature: A detached signature.
            trust: In place of the trust policy so far, from the commit on.
            limits: In place of the limits so far, likewise.

        Returns:
            Something with ``commit()`` and ``abort()``.

        Raises:
            WasmError: It was refused, does not load, or is not healthy.
            ClosedError: This was closed.
        """
        with self._offers:
            if self._closed:
                raise ClosedError(self._name)
            options = self._options if limits is None else {**self._options, "limits": limits}
            trust = self._trust if trust is None else trust
            data = source if isinstance(source, bytes) else _content(source, options)
            version = self._made(data, signature, trust, options)
            try:
                self._require_healthy(version.plugin)
            except BaseException as error:
                version.plugin.close()
                self._refused(version, str(error))
                raise
            return Offer(self, version, trust, options)

    def _take_over(self, version: _Version, trust: Any, options: dict[str, Any]) -> None:
        with self._offers:
            if self._closed:
                version.plugin.close()
                return
            self._trust, self._options = trust, options
            with self._lock:
                dropped, self._candidate, self._rollout = self._candidate, None, None
            if dropped is not None:
                dropped.plugin.close()
            if self._state is not None:
                self._keep(version)
            self._commit(version)

    def call(self, name: str, *args: Any) -> Any:
        """Call a function of the version that is active, or of the one that is on its plan.

        Raises:
            WasmError: As with `Plugin.call`; also when there is no version yet.
        """
        while True:
            active = self._active
            try:
                if self._rollout is None or active is None:
                    return self._there(active).plugin.call(name, *args)
                return self._while_rolling_out(active, name, args)
            except ClosedError:
                # The version was changed between the look and the call, which had not begun.
                if self._closed or self._active is active:
                    raise

    async def call_async(self, name: str, *args: Any) -> Any:
        """Like `call`, beside everything else on the event loop."""
        while True:
            active = self._active
            try:
                if self._rollout is None or active is None:
                    return await self._there(active).plugin.call_async(name, *args)
                return await self._beside_loop(active, name, args)
            except ClosedError:
                if self._closed or self._active is active:
                    raise

    def allow(self, method: bytes, path: bytes) -> bool:
        """Ask an HTTP policy; when it fails, what ``fail=`` says."""
        if self._reload_at and not self._reloaded():
            return False
        try:
            answer = self.call("on_http_request", method, path) == 1
        except WasmError:
            return self._failed()
        self._pause = _BACKOFF[0]
        return bool(answer)

    async def allow_async(self, method: bytes, path: bytes) -> bool:
        """Like `allow`, beside everything else on the event loop."""
        if self._reload_at and not self._reloaded():
            return False
        try:
            answer = await self.call_async("on_http_request", method, path) == 1
        except WasmError:
            return self._failed()
        self._pause = _BACKOFF[0]
        return bool(answer)

    def _failed(self) -> bool:
        if self._fail == "reload":
            self._reload_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _BACKOFF[1])
        return self._fail == "open"

    def look(self, source: Source) -> bool:
        """Look once whether there is another version.

        Args:
            source: A directory with ``NAME.wasm``, and ``NAME.sig`` where the signature is beside
                it; or a function that returns the module, or module and signature, or ``None``
                when there is nothing.

        Returns:
            Whether something new was found and offered. What was refused is not offered again
            until it changes.

        Raises:
            WasmError: It was refused.
        """
        found = source() if callable(source) else self._in_directory(Path(source))
        if found is None:
            return False
        data, signature = (found, None) if isinstance(found, bytes) else found
        digest = hashlib.sha256(data + (signature or b"")).hexdigest()
        if digest == self._last:
            return False
        self._last = digest
        self.offer(data, signature)
        return True

    def _in_directory(self, folder: Path) -> tuple[bytes, bytes | None] | None:
        try:
            data = (folder / f"{self._name}.wasm").read_bytes()
        except FileNotFoundError:
            return None
        beside = folder / f"{self._name}.sig"
        return data, beside.read_bytes() if beside.exists() else None

    def watch(self, source: Source, *, every: float = 1.0) -> Callable[[], None]:
        """Look for another version now and then, on a thread of its own.

        What is refused becomes a `PluginRefused` event. A function that fails is asked again;
        what it raised is told once, in the log ``hastack.wasm``.

        Args:
            source: See `look`.
            every: Seconds between two looks.

        Returns:
            A function that ends it.

        Raises:
            InvalidArgument: ``every`` is not above zero.
        """
        pause = _validate.seconds("every", every)
        stop = threading.Event()

        def run() -> None:
            trouble = ""
            while not stop.is_set() and not self._closed:
                try:
                    self.look(source)
                    trouble = ""
                except (WasmError, OSError, ClosedError):
                    pass  # an event said so; the next change is looked at again
                except Exception as error:  # of a function that somebody gave
                    if trouble != repr(error):
                        trouble = repr(error)
                        _LOG.exception("%s: looking for another version failed", self._name)
                stop.wait(pause)

        thread = threading.Thread(target=run, name=f"hastack-wasm-{self._name}", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(pause + 60.0)

        return end

    def close(self) -> None:
        """Take no more calls; what is under way ends as it would."""
        with self._offers, self._lock:
            self._closed = True
            versions = [self._active, self._candidate]
            self._active = self._candidate = self._rollout = None
        for version in versions:
            if version is not None:
                version.plugin.close()

    def __enter__(self) -> Swap:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _there(self, version: _Version | None) -> _Version:
        if self._closed:
            raise ClosedError(self._name)
        if version is None:
            raise WasmError(f"{self._name}: no version was offered yet")
        return version

    def _routed(self) -> tuple[Rollout | None, _Version | None, str]:
        """Who answers the next call while a version is on its plan."""
        with self._lock:
            rollout, candidate = self._rollout, self._candidate
            if rollout is None or candidate is None:
                return None, None, "active"
            return rollout, candidate, rollout.route()

    def _while_rolling_out(self, active: _Version, name: str, args: tuple[Any, ...]) -> Any:
        rollout, candidate, route = self._routed()
        if candidate is None or route != "candidate":
            answer = active.plugin.call(name, *args)
            if candidate is None or route == "active":
                self._note(rollout)
                return answer
            try:
                other = candidate.plugin.call(name, *args)
            except (WasmError, InvalidArgument, ClosedError) as error:
                self._note(rollout, failed=str(error))
            else:
                self._note(rollout, differs=other != answer)
            return answer
        try:
            answer = candidate.plugin.call(name, *args)
        except InvalidArgument as error:
            answer = active.plugin.call(name, *args)  # the caller's mistake, if it is one
            self._note(rollout, failed=str(error))
            return answer
        except (WasmError, ClosedError) as error:
            self._note(rollout, failed=str(error))
            return self._there(self._active).plugin.call(name, *args)
        self._note(rollout)
        return answer

    async def _beside_loop(self, active: _Version, name: str, args: tuple[Any, ...]) -> Any:
        rollout, candidate, route = self._routed()
        if candidate is None or route != "candidate":
            answer = await active.plugin.call_async(name, *args)
            if candidate is None or route == "active":
                self._note(rollout)
                return answer
            try:
                other = await candidate.plugin.call_async(name, *args)
            except (WasmError, InvalidArgument, ClosedError) as error:
                self._note(rollout, failed=str(error))
            else:
                self._note(rollout, differs=other != answer)
            return answer
        try:
            answer = await candidate.plugin.call_async(name, *args)
        except InvalidArgument as error:
            answer = await active.plugin.call_async(
                name, *args
            )  # the caller's mistake, if it is one
            self._note(rollout, failed=str(error))
            return answer
        except (WasmError, ClosedError) as error:
            self._note(rollout, failed=str(error))
            return await self._there(self._active).plugin.call_async(name, *args)
        self._note(rollout)
        return answer

    def _note(
        self, rollout: Rollout | None, *, differs: bool = False, failed: str | None = None
    ) -> None:
        if rollout is None:
            return
        with self._lock:
            if failed is None:
                rollout.answered(differs=differs)
            else:
                rollout.failed(failed)
            over = rollout.over and rollout is self._rollout
        if over:
            self._settle()

    def _settle(self) -> None:
        """Take the candidate over, or back, when its plan is through."""
        with self._lock:
            rollout, candidate = self._rollout, self._candidate
            if rollout is None or candidate is None or not rollout.over:
                return
            # From here on it is this thread's: others go to the active version.
            self._rollout = self._candidate = None
        if rollout.phase == GOOD:
            try:
                self._require_healthy(candidate.plugin)
                self._commit(candidate)
            except Exception as error:
                rollout.fail(str(error))
        if rollout.phase == BAD:
            candidate.plugin.close()
            self._forget(candidate)
            if _events.ROLLED_BACK.subscribers:
                _events.ROLLED_BACK.publish(
                    _events.PluginRolledBack(
                        plugin=self._name, digest=self.digest or "", detail=rollout.reason
                    )
                )
            if self._active is None:
                raise WasmError(f"{self._name}: {rollout.reason}")

    def _commit(self, version: _Version) -> None:
        if self._state is not None:
            self._write(self._state, active=version.plugin.digest, candidate=None)
        self._accept(version)
        with self._lock:
            before, self._active = self._active, version
        if _events.SWAPPED.subscribers:
            _events.SWAPPED.publish(
                _events.PluginSwapped(plugin=self._name, digest=version.plugin.digest)
            )
        if before is not None:
            before.plugin.close()
            self._forget(before)

    def _accept(self, version: _Version) -> None:
        if isinstance(self._trust, Trust) and version.plugin.verified is not None:
            self._trust.accepted(self._name, version.plugin.verified)

    def _same(self, data: bytes) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        return any(
            version is not None and version.plugin.digest == digest
            for version in (self._active, self._candidate)
        )

    def _made(
        self,
        data: bytes,
        signature: bytes | None,
        trust: Any = None,
        options: dict[str, Any] | None = None,
    ) -> _Version:
        plugin = load(
            data,
            trust=self._trust if trust is None else trust,
            name=self._name,
            signature=signature,
            accept=False,
            **(self._options if options is None else options),
        )
        return _Version(plugin, data, signature)

    def _require_healthy(self, plugin: Plugin) -> None:
        if self._health is not None and self._health(plugin) is False:
            raise WasmError(f"{self._name}: the new version is not healthy")

    def _refused(self, version: _Version, why: str) -> None:
        self._forget(version)
        if _events.REFUSED.subscribers:
            _events.REFUSED.publish(
                _events.PluginRefused(plugin=self._name, digest=version.plugin.digest, detail=why)
            )

    def _reloaded(self) -> bool:
        """Make the plugin anew, when its pause is over."""
        now = time.monotonic()
        with self._lock:
            active = self._active
            if now < self._reload_at or active is None:
                return False
            self._reload_at = now + self._pause  # one thread does it
        try:
            version = self._made(active.data, active.signature)
        except (WasmError, OSError):
            return False
        with self._lock:
            if self._active is not active:
                version.plugin.close()
            else:
                self._active = version
            self._reload_at = 0.0
        active.plugin.close()
        return True

    # On disk: one file for each version, named by its digest, and one that says which is which.

    def _keep(self, version: _Version) -> None:
        if self._state is None:
            return
        replace(self._state / f"{version.plugin.digest}.wasm", version.data)
        if version.signature is not None:
            replace(self._state / f"{version.plugin.digest}.sig", version.signature)
        self._write(self._state, active=self.digest, candidate=version.plugin.digest)

    def _write(self, folder: Path, *, active: str | None, candidate: str | None) -> None:
        state = {"active": active, "candidate": candidate}
        replace(folder / "state.json", json.dumps(state).encode())

    def _forget(self, version: _Version) -> None:
        digest = version.plugin.digest
        if self._state is None or digest == self.digest:
            return
        candidate = self._candidate
        if candidate is None:
            self._write(self._state, active=self.digest, candidate=None)
        elif candidate.plugin.digest == digest:
            return
        for ending in ("wasm", "sig"):
            (self._state / f"{digest}.{ending}").unlink(missing_ok=True)

    def _restore(self, folder: Path) -> None:
        """The last good version. A candidate had not proved itself: it is for somebody to offer."""
        try:
            state = json.loads((folder / "state.json").read_bytes())
            digest = state["active"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise WasmError(f"{folder}/state.json cannot be read: {error}") from None
        if state.get("candidate") and _events.ROLLED_BACK.subscribers:
            _events.ROLLED_BACK.publish(
                _events.PluginRolledBack(
                    plugin=self._name, digest=digest or "", detail="interrupted while on trial"
                )
            )
        if digest is not None:
            data = (folder / f"{digest}.wasm").read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise WasmError(f"{folder}/{digest}.wasm is not what was kept there")
            beside = folder / f"{digest}.sig"
            self._active = self._made(data, beside.read_bytes() if beside.exists() else None)
            self._accept(self._active)  # it was to be, when the process ended
        self._write(folder, active=digest, candidate=None)
        for path in folder.glob("*.*"):
            if path.suffix in {".wasm", ".sig"} and path.stem != digest:
                path.unlink(missing_ok=True)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._offers = threading.Lock()


def _content(source: str | os.PathLike[str], options: dict[str, Any]) -> bytes:
    from ._limits import Limits

    limits = options.get("limits") or Limits()
    with Path(source).open("rb") as file:
        return file.read(limits.module_bytes + 1)  # one more than allowed: it is refused by `load`

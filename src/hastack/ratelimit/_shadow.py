"""Guards that decide and record, and let every call pass."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from hastack._core._errors import InvalidArgument
from hastack._core._fork import renew_in_child

from ._compose import Pipeline
from ._decision import decision
from ._guard import Admission, Guard, Refusal, checked_name
from ._limit_events import SHADOW_REJECTED, ShadowRejected

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ._guard import AsyncCall, Call

G = TypeVar("G", bound=Guard)

_log = logging.getLogger("hastack.ratelimit")

_PASSED: Any = object()
"""The permit of a call that the guard would have refused: there is nothing to give back."""

_MOST_BEYOND = 100_000


class Shadow(Guard, Generic[G]):
    """A guard that decides and records as always, but never refuses, delays or ends a call.

    For a rule that is to be watched under real traffic before it is put in force. Admitted calls
    move the guard's counters and state as they would otherwise, and a circuit breaker watches
    their outcomes; for each call that the guard would not have left alone there is one
    `ShadowRejected` event, in place of `RequestRejected`. What a refused call does goes uncounted,
    as if it had not been made. A rule that fails (a key function that raises, a cost beyond the
    limit) lets the call pass as well, which the event and one log record say.

    Stands where the guard would: as a decorator, in `compose`, as ``with``, asked directly. A
    shadowed `compose` asks each of its guards, also those behind one that would have refused. A
    shadowed `Timeout`, `Retry`, `Hedge` or `Fallback` runs the call once, as it is, and says what
    it would have done.

    Args:
        guard: The guard to shadow.
        name: Appears in events; default: the guard's name. The guards of a pipeline keep theirs.
        active: ``False`` puts the guard in force; see `switch`.

    Attributes:
        guard: The guard itself. Whatever else it offers (``update``, ``peek``, ``state``,
            ``snapshot`` ...) is reached through the shadow, too.

    Raises:
        InvalidArgument: ``guard`` is none.

    Example:
        >>> from hastack import events, ratelimit
        >>> api = ratelimit.Shadow(ratelimit.TokenBucket("1/min", name="api"))
        >>> with events.record(ratelimit.ShadowRejected) as seen:
        ...     [bool(api.try_acquire()) for _ in range(3)]
        [True, True, True]
        >>> [(each.name, each.reason) for each in seen]
        [('api', 'limited'), ('api', 'limited')]
    """

    guard: G

    def __new__(cls, guard: G, **_options: Any) -> Shadow[G]:
        kind: type[Shadow[Any]] = cls
        if cls is Shadow:
            if isinstance(guard, Pipeline):
                kind = _ShadowPipeline
            else:
                kind = _ShadowAdmission if isinstance(guard, Admission) else _ShadowPolicy
        return object.__new__(kind)

    def __init__(self, guard: G, *, name: str | None = None, active: bool = True) -> None:
        if not isinstance(guard, Guard):
            raise InvalidArgument("guard", guard, "a guard such as TokenBucket(...)")
        self.guard = guard
        self.name = guard.name if name is None else checked_name(self, name)
        self._clock = guard._clock
        self._active = _flag(active)
        self._refusals = 0
        self._logged = False
        self._lock = threading.Lock()
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"Shadow({self.guard!r}{'' if self._active else ', active=False'})"

    @property
    def active(self) -> bool:
        """Whether every call passes; ``False`` when the guard is in force."""
        return self._active

    @property
    def refusals(self) -> int:
        """How many calls the guard would not have left alone."""
        return self._refusals

    def switch(self, *, active: bool) -> None:
        """Put the guard in force, or back into the shadow; counters and state stay.

        Calls that are inside keep the permits that they have.
        """
        self._active = _flag(active)

    # -- asking ---------------------------------------------------------------------------

    def try_acquire(self, *asked: Any, **named: Any) -> Any:
        """Ask as the guard's own `try_acquire` does; the answer is a yes."""
        raise self._unfit("a limiter or breaker, which can be asked")

    def acquire(self, *asked: Any, **named: Any) -> Any:
        """The guard's own `acquire`; in the shadow it does not wait."""
        return self.try_acquire(*asked, **named)

    async def acquire_async(self, *asked: Any, **named: Any) -> Any:
        """`acquire` for a task."""
        return self.try_acquire(*asked, **named)

    def release(self, key: Hashable = None, cost: Any = 1.0) -> None:
        """Give back what `try_acquire` or `acquire` took, where the guard wants it back."""
        self._own("release")(key, cost)

    def reserve(self, key: Hashable = None, cost: Any = 1.0, **named: Any) -> Any:
        """The guard's own `reserve`; in the shadow, never refused."""
        raise self._unfit("a limiter")

    async def reserve_async(self, key: Hashable = None, cost: Any = 1.0, **named: Any) -> Any:
        """`reserve` for a task."""
        return self.reserve(key, cost, **named)

    def __getattr__(self, name: str) -> Any:
        # What only reads or changes the guard is the guard's own.
        if name.startswith("_") or "guard" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.guard, name)

    def _own(self, method: str) -> Any:
        found = getattr(self.guard, method, None)
        if found is None:
            raise self._unfit(f"a guard with {method}()")
        return found

    # -- inside ---------------------------------------------------------------------------

    def _record(self, refusal: Refusal) -> None:
        with self._lock:
            self._refusals += 1
            first, self._logged = not self._logged, self._logged or refusal.error is not None
        if refusal.error is not None and first:
            _log.error(
                "%s: the shadowed rule failed and its calls pass (reported once)",
                self.name,
                exc_info=refusal.error,
            )
        if SHADOW_REJECTED.subscribers:
            SHADOW_REJECTED.publish(
                ShadowRejected(at=self._clock.monotonic(), name=self.name, **refusal._asdict())
            )

    def _after_fork(self) -> None:
        self._lock = threading.Lock()


class _ShadowAdmission(Shadow[Any], Admission):
    """A limiter or breaker in the shadow."""

    def __init__(self, guard: Admission, *, name: str | None = None, active: bool = True) -> None:
        super().__init__(guard, name=name, active=active)
        self._settles = guard._settles
        self._hears_answers = guard._hears_answers
        self._waits = guard._waits
        # Permits that callers of `try_acquire` hold without the guard knowing of them.
        self._beyond: dict[Hashable, float] = {}

    def try_acquire(self, *asked: Any, **named: Any) -> Any:
        if not self._active:
            return self._own("try_acquire")(*asked, **named)
        named = {key: value for key, value in named.items() if key not in {"timeout", "ctx"}}
        try:
            answer, refusal = self.guard._try_quietly(*asked, **named)
        except Exception as error:
            if isinstance(error, (InvalidArgument, TypeError)) and not self._can_be_asked():
                raise
            answer, refusal = decision(True, 0.0, 0.0, 0.0), _failed(error)
        if refusal is not None:
            self._hold(refusal)
            self._record(self._named(refusal))
        return answer

    def acquire(self, *asked: Any, **named: Any) -> Any:
        if self._active:
            return self.try_acquire(*asked, **named)
        return self._own("acquire")(*asked, **named)

    async def acquire_async(self, *asked: Any, **named: Any) -> Any:
        if self._active:
            return self.try_acquire(*asked, **named)
        return await self._own("acquire_async")(*asked, **named)

    def reserve(self, key: Hashable = None, cost: Any = 1.0, **named: Any) -> Any:
        if not self._active:
            return self._own("reserve")(key, cost, **named)
        answer, refusal = self.guard._reserve_quietly(key, cost)
        if refusal is not None:
            self._record(self._named(refusal))
        return answer

    async def reserve_async(self, key: Hashable = None, cost: Any = 1.0, **named: Any) -> Any:
        if not self._active:
            return await self._own("reserve_async")(key, cost, **named)
        return self.reserve(key, cost)

    def release(self, key: Hashable = None, cost: Any = 1.0) -> None:
        with self._lock:
            held = self._beyond.pop(key, 0.0) - 1.0
            if held > 0.0:
                self._beyond[key] = held
        if held < 0.0:
            super().release(key, cost)

    def _can_be_asked(self) -> bool:
        return type(self.guard)._try_quietly is not Admission._try_quietly

    def _hold(self, refusal: Refusal) -> None:
        if not hasattr(self.guard, "release"):
            return
        with self._lock:
            if refusal.key in self._beyond or len(self._beyond) < _MOST_BEYOND:
                self._beyond[refusal.key] = self._beyond.get(refusal.key, 0.0) + 1.0

    def _named(self, refusal: Refusal) -> Refusal:
        """``refusal``, which is a mere delay when the guard would have let the caller wait."""
        after = refusal.retry_after
        if not self._waits or refusal.error is not None:
            return refusal
        longest = getattr(self.guard, "_max_wait", None)
        if longest is None or after is None or after <= longest:
            return refusal._replace(reason="delayed")
        return refusal

    # -- guarding -------------------------------------------------------------------------

    def _admit(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        guard: Admission = self.guard
        if not self._active:
            return guard._admit(now, args, kwargs)
        try:
            permit, refusal = guard._decide(now, args, kwargs)
        except Exception as error:
            permit, refusal = None, _failed(error)
        if refusal is None:
            return permit
        self._record(self._named(refusal))
        return _PASSED

    def _admit_waiting(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._active:
            return self.guard._admit_waiting(args, kwargs)
        return self._admit(self._clock.monotonic(), args, kwargs)

    async def _admit_waiting_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._active:
            return await self.guard._admit_waiting_async(args, kwargs)
        return self._admit(self._clock.monotonic(), args, kwargs)

    def _settle(self, permit: Any, now: float, error: BaseException | None, result: Any) -> None:
        if permit is not _PASSED:
            self.guard._settle(permit, now, error, result)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._beyond.clear()  # held by threads that this process does not have


class _ShadowPolicy(Shadow[Any]):
    """A policy that runs the call itself, in the shadow."""

    def _around(self, call: Call) -> Call:
        built = (self.guard, self.guard._around(call))
        read = self._clock.monotonic

        def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal built
            if not self._active:
                guard, inner = built
                if guard is not self.guard:  # `live` put another in its place
                    guard, inner = built = (self.guard, self.guard._around(call))
                return inner(*args, **kwargs)
            started = read()
            try:
                result = call(*args, **kwargs)
            except BaseException as error:
                self._look(read() - started, error, None)
                raise
            self._look(read() - started, None, result)
            return result

        return watched

    def _around_async(self, call: AsyncCall) -> AsyncCall:
        built = (self.guard, self.guard._around_async(call))
        read = self._clock.monotonic

        async def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal built
            if not self._active:
                guard, inner = built
                if guard is not self.guard:
                    guard, inner = built = (self.guard, self.guard._around_async(call))
                return await inner(*args, **kwargs)
            started = read()
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                self._look(read() - started, error, None)
                raise
            self._look(read() - started, None, result)
            return result

        return watched

    # A block keeps the mode that it was entered in: a number is when one in the shadow began.

    def _enter(self) -> Any:
        guard = self.guard
        return self._clock.monotonic() if self._active else (guard, guard._enter())

    def _exit(self, state: Any, error: BaseException | None) -> None:
        if isinstance(state, tuple):
            state[0]._exit(state[1], error)
        else:
            self._look(self._clock.monotonic() - state, error, None)

    async def _enter_async(self) -> Any:
        guard = self.guard
        return self._clock.monotonic() if self._active else (guard, await guard._enter_async())

    async def _exit_async(self, state: Any, error: BaseException | None) -> None:
        if isinstance(state, tuple):
            await state[0]._exit_async(state[1], error)
        else:
            self._look(self._clock.monotonic() - state, error, None)

    def _look(self, took: float, error: BaseException | None, result: Any) -> None:
        try:
            reason = self.guard._would_act(took, error, result)
        except Exception as mistake:  # a predicate of the user
            self._record(_failed(mistake))
            return
        if reason is not None:
            self._record(Refusal(None, 1.0, reason, None))


class _ShadowPipeline(Shadow[Any]):
    """Guards in a row, each in its own shadow."""

    def __init__(self, guard: Pipeline, *, name: str | None = None, active: bool = True) -> None:
        super().__init__(guard, name=name, active=active)
        parts = tuple(Shadow(each, active=active) for each in guard.guards)
        self._parts = cast("tuple[Shadow[Any], ...]", parts)
        self._row = Pipeline(parts)
        # Straight to the row, which does all of it already.
        for each in ("_flat", "_around", "_around_async", "_enter", "_exit"):
            vars(self)[each] = getattr(self._row, each)
        vars(self)["_enter_async"] = self._row._enter_async
        vars(self)["_exit_async"] = self._row._exit_async

    @property
    def refusals(self) -> int:
        return sum(part.refusals for part in self._parts)

    def switch(self, *, active: bool) -> None:
        super().switch(active=active)
        for part in self._parts:
            part.switch(active=active)


def _failed(error: Exception) -> Refusal:
    return Refusal(None, 1.0, "error", None, error)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument("active", value, "True or False")
    return value

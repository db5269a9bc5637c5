"""One rule: a limit, and the requests that it is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from hastack._core._errors import InvalidArgument
from hastack._core._validate import positive, text
from hastack.ratelimit import Admission, AllOf, ConcurrencyLimit
from hastack.ratelimit._decision import decision
from hastack.ratelimit._limiter import RateLimiter

from ._http_keys import BodyCost
from ._limit_fields import Policy, Standing, limits_of, policy_of, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from hastack._core._errors import Rejected
    from hastack.ratelimit import Decision

    from ._http_request import HttpRequest

_PART = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*(:path)?\}|\*$")


@final
class Rule:
    """A guard for the requests that match.

    Args:
        guard: A limiter, a concurrency limit, `AllOf`, `CircuitBreaker`, `AdaptiveLimit`, or one
            of these in a `Shadow`. The rule keeps this very object: changing its limits, by hand
            or from a new configuration, keeps what was counted. A limiter with a ``max_wait``
            lets requests wait that long.
        key: From an `HttpRequest`, whose permits it takes. Default: the limiter's own ``key``,
            called with the request, and with neither one limit for all.
        cost: Permits that a request takes, or a function of an `HttpRequest`, whose answer counts
            up to what the limit can give at most. Default: the limiter's own.
        methods: The methods it is for; ``GET`` brings ``HEAD``, which most frameworks serve
            alike. Default: all.
        path: The paths it is for: ``/orders/{id}`` (one segment), ``/files/{rest:path}`` (the
            rest), ``/static/*``. Default: all.
        when: From an `HttpRequest`, whether the rule is for it.
        name: In response headers and problem documents. Default: the guard's name.
        partition: From an `HttpRequest`, bytes that tell the client which part of a divided
            quota it has used (``pk`` in the headers). The client sees them.
        shadow: Decide and record, but let every request pass: puts ``guard`` into a `Shadow`.

    Raises:
        InvalidArgument: An argument is outside of its range, or ``guard`` is one that has to run
            the call itself (`Retry`, `Timeout`, `Fallback`, ``compose``).

    Example:
        >>> from hastack import ratelimit
        >>> from hastack.contrib.http_limits import Rule, by_client
        >>> rule = Rule(
        ...     ratelimit.TokenBucket("5/min", name="logins"),
        ...     key=by_client(),
        ...     methods=["POST"],
        ...     path="/login",
        ... )
    """

    def __init__(
        self,
        guard: Any,
        *,
        key: Callable[[HttpRequest], Hashable] | None = None,
        cost: float | Callable[[HttpRequest], float] | None = None,
        methods: Iterable[str] | None = None,
        path: str | None = None,
        when: Callable[[HttpRequest], object] | None = None,
        name: str | None = None,
        partition: Callable[[HttpRequest], bytes] | None = None,
        shadow: bool = False,
    ) -> None:
        self.guard, self.limiter = _guards(guard, shadow=shadow)
        self.keyed = isinstance(self.limiter, RateLimiter | AllOf)
        self.name = self.guard.name if name is None else text("name", name)
        for parameter, given in (("key", key), ("when", when), ("partition", partition)):
            if given is not None and not callable(given):
                raise InvalidArgument(parameter, given, "a function of a request, or None")
        if not self.keyed and not (key is cost is None):
            parameter = "cost" if key is None else "key"
            raise InvalidArgument(parameter, cost or key, "nothing: this guard has no keys")
        self._key, self._cost, self._cost_of = self._asking(key, cost)
        self._methods = None if methods is None else _methods(methods)
        self._path = None if path is None else _pattern(path)
        self._when = when
        self._partition = partition
        self.template = "" if path is None else path
        self.waits: bool = self.guard._waits
        # What is held until the response has ended, and given back then.
        self.held: bool = self.keyed and self.limiter._settles
        self._unit = cost.per if isinstance(cost, BodyCost) else 0
        self._policies: dict[Any, tuple[Any, Any, Policy]] = {}

    def __repr__(self) -> str:
        where = f" for {self.template}" if self.template else ""
        return f"<Rule {self.name!r}{where}: {self.guard!r}>"

    @property
    def shadow(self) -> bool:
        """Whether every request passes now."""
        return self.guard is not self.limiter and self.guard.active

    def applies(self, request: HttpRequest) -> bool:
        """Whether the rule is for this request."""
        if self._methods is not None and request.method not in self._methods:
            return False
        if self._path is not None and self._path.fullmatch(request.path) is None:
            return False
        return self._when is None or bool(self._when(request))

    def _asking(self, key: Any, cost: Any) -> tuple[Any, float, Any]:
        """Key, cost and cost function, the rule's own before those of the limiter."""
        if not self.keyed:
            return None, 1.0, None
        limiter = self.limiter
        if isinstance(limiter, AllOf):
            for each in limiter.limits:
                if each._key is not None or each._cost_of is not None or each._cost != 1.0:
                    accepted = "limits without a key and a cost of their own; or one rule for each"
                    raise InvalidArgument("guard", limiter, accepted)
        else:
            key = limiter._key if key is None else key
            if cost is None:
                cost = limiter._cost if limiter._cost_of is None else limiter._cost_of
        if callable(cost):
            return key, 1.0, cost
        return key, 1.0 if cost is None else positive("cost", cost), None

    # -- of limiters ----------------------------------------------------------------------

    def asks(self, request: HttpRequest) -> tuple[Hashable, float]:
        """The key and the cost of a request."""
        request.matched = self.template
        key = None if self._key is None else self._key(request)
        if self._cost_of is None:
            return key, self._cost
        # A client chooses this cost: one beyond what the limit can ever give must be no error.
        largest = min(each._core.largest() for each in limits_of(self.limiter))
        return key, min(self._cost_of(request), largest)

    def give_back(self, key: Hashable, cost: float) -> None:
        """Return what a request took that was refused elsewhere."""
        for each in limits_of(self.limiter):
            each._charge(key, -cost)

    def refusal(self, key: Hashable, cost: float, answer: Decision) -> Rejected:
        """The error for an answer that is a no."""
        limiters = limits_of(self.limiter)
        blocking = [each for each in limiters if not each.peek(key, cost)] or limiters
        return blocking[0]._error(self.name, retry_after=answer.retry_after or None)

    def answer(self, key: Hashable, cost: float, error: Rejected) -> Decision:
        """The answer behind an error: how the limit stood when it refused."""
        now = self.limiter.peek(key, cost)
        return decision(False, now.level, error.retry_after or 0.0, now.reset_after)

    def standings(self, request: HttpRequest, key: Hashable, answer: Decision) -> list[Standing]:
        """How the limits of this rule stand, for the response headers."""
        partition = None if self._partition is None else self._partition(request)
        limiters = limits_of(self.limiter)
        if len(limiters) == 1:
            return [self._standing(self.name, limiters[0], key, answer, partition)]
        found = []
        for each in limiters:
            own = each.peek(key)  # after a yes, a limit that is used up now did not refuse
            if answer.allowed:
                own.allowed = True
            found.append(self._standing(each.name, each, key, own, partition))
        return found

    def _standing(
        self,
        name: str,
        limiter: RateLimiter,
        key: Hashable,
        answer: Decision,
        partition: bytes | None,
    ) -> Standing:
        refused = not answer.allowed
        seconds: float | None = answer.reset_after
        if isinstance(limiter, ConcurrencyLimit):
            seconds = None  # when others leave is nobody's guess
        elif refused:
            seconds = answer.retry_after
        elif answer.remaining == 0:
            # Nothing left until the next permit, which comes long before the full allowance.
            seconds = limiter.peek(key).retry_after
        policy = self._policy(limiter)
        return Standing(name, policy, answer.remaining, seconds, refused, self._unit, partition)

    def _policy(self, limiter: RateLimiter) -> Policy:
        """`policy_of`, computed again only when the limit has changed."""
        known = self._policies.get(limiter)
        if known is None:
            look = shape_of(limiter)
            known = self._policies[limiter] = (look, look(limiter), policy_of(limiter))
        look, shape, policy = known
        now = look(limiter)
        if now != shape:
            policy = policy_of(limiter)
            self._policies[limiter] = (look, now, policy)
        return policy


def _guards(guard: Any, *, shadow: bool) -> tuple[Any, Any]:
    """The guard to ask, and the one behind it when it is a shadow."""
    from hastack.ratelimit import Shadow

    if shadow and not isinstance(guard, Shadow):
        guard = Shadow(guard)
    limiter = guard.guard if isinstance(guard, Shadow) else guard
    if not isinstance(limiter, Admission):
        accepted = "a limiter, breaker or adaptive limit; one rule for each guard of a pipeline"
        raise InvalidArgument("guard", guard, accepted)
    return guard, limiter


def _methods(methods: Iterable[str]) -> frozenset[str]:
    given: tuple[Any, ...] = () if isinstance(methods, str) else tuple(methods)
    if not given or not all(isinstance(each, str) for each in given):
        raise InvalidArgument("methods", methods, 'a sequence such as ["GET", "POST"]')
    named = {each.upper() for each in given}
    return frozenset(named | {"HEAD"} if "GET" in named else named)


def _pattern(path: object) -> re.Pattern[str]:
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidArgument("path", path, 'a path such as "/orders/{id}", beginning with /')
    written = []
    end = 0
    for part in _PART.finditer(path):
        written.append(re.escape(path[end : part.start()]))
        written.append(".*" if part[0] == "*" else ".+" if part[1] else "[^/]+")
        end = part.end()
    rest = path[end:]
    if set(rest) & set("{}*") or any(set(each) & set("{}*") for each in written[::2]):
        raise InvalidArgument("path", path, "parts such as {id} or {rest:path}, and * at the end")
    return re.compile("".join([*written, re.escape(rest)]), re.DOTALL)

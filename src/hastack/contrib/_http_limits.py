"""What happens to a request that meets rules: asked in order, refused or admitted as a whole.

The decision is a generator that hands out the few steps that may wait, so that threads and event
loops share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, final

from hastack._core._errors import ContextError, HastackError, InvalidArgument, Rejected
from hastack._rejection import problem
from hastack.ratelimit._guard import Refusal

from ._client_address import TrustedProxies
from ._http_rule import Rule
from ._limit_fields import fields, styles

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterable, Sequence

    from hastack._rejection import Problem

    from ._http_request import HttpRequest
    from ._limit_fields import Fields, Standing


class ServerFailed(HastackError):
    """The application answered with a status that says it failed; what a breaker is told."""


class Step(NamedTuple):
    """One thing that may wait: acquire from a rule's guard.

    Attributes:
        rule: Whose guard.
        request: Whose permits.
        key: As the limiter wants it.
        cost: As the limiter wants it.
    """

    rule: Rule
    request: HttpRequest
    key: Hashable = None
    cost: Any = 1.0

    def run(self) -> Any:
        """Wait on this thread."""
        guard = self.rule.guard
        if self.rule.keyed:
            return guard.acquire(self.key, self.cost, timeout=self.rule.limiter._max_wait)
        return guard._admit_waiting((self.request,), {})

    async def run_async(self) -> Any:
        """Wait on the running loop."""
        guard = self.rule.guard
        if self.rule.keyed:
            patience = self.rule.limiter._max_wait
            return await guard.acquire_async(self.key, self.cost, timeout=patience)
        return await guard._admit_waiting_async((self.request,), {})


class Held(NamedTuple):
    """What a request has of one rule while it is being answered."""

    rule: Rule
    key: Hashable
    cost: Any
    got: Any

    @property
    def allowed(self) -> bool:
        """Whether the rule lets the request pass."""
        return not self.rule.keyed or self.got.allowed

    def finish(self, error: BaseException | None) -> None:
        """The response has ended."""
        guard = self.rule.guard
        if self.rule.keyed:
            guard.release(self.key, self.cost)
        else:
            guard._settle(self.got, guard._clock.monotonic(), error, None)

    def undo(self) -> None:
        """The request was refused by another rule, so it did not happen."""
        if self.rule.keyed:
            self.rule.give_back(self.key, self.cost)
        else:
            self.finish(Rejected(self.rule.name))


@final
class Verdict:
    """The answer of the rules to one request.

    Attributes:
        problem: The response to send instead of asking the application; ``None`` to ask it.
        error: What refused.
        fields: Response headers, names in lower case, for either answer.
    """

    __slots__ = ("_held", "error", "fields", "problem")

    def __init__(
        self,
        held: Sequence[Held],
        headers: Fields,
        refused: Problem | None = None,
        error: HastackError | None = None,
    ) -> None:
        self._held = held
        self.fields = headers
        self.problem = refused
        self.error = error

    @property
    def holds(self) -> bool:
        """Whether anything has to be told of the end."""
        return bool(self._held)

    def finish(self, error: BaseException | None = None, status: int = 200) -> None:
        """The response has ended; only the first call counts."""
        held, self._held = self._held, ()
        if error is None and status >= 500:
            error = ServerFailed(f"answered {status}")
        for each in reversed(held):
            each.finish(error)


_PASSED = Verdict((), ())


@final
class Limits:
    """The rules of one place, with what their answers have in common.

    Args:
        rules: In the order in which they are asked. A request that one of them refuses gives
            back what it got from those before.
        headers: The response headers: ``"draft"`` for ``RateLimit-Policy`` and ``RateLimit``,
            ``"legacy"`` for ``RateLimit-Limit``, ``-Remaining`` and ``-Reset``, ``"x"`` for the
            same with ``X-`` before; a tuple of these; ``None`` for none.
        proxies: Whom to believe about the client's address; ``None`` for nobody.

    Raises:
        InvalidArgument: An argument is something else.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        headers: Any = "draft",
        proxies: TrustedProxies | None = None,
    ) -> None:
        self.rules = tuple(rules)
        if not all(isinstance(each, Rule) for each in self.rules):
            raise InvalidArgument("rules", self.rules, "a sequence of Rule(...)")
        if proxies is not None and not isinstance(proxies, TrustedProxies):
            raise InvalidArgument("proxies", proxies, "TrustedProxies(...), or None")
        self.proxies = proxies
        self.styles = styles(headers)

    def decide(self, request: HttpRequest) -> Generator[Step, Any, Verdict]:
        """Ask the rules; yields what may wait, returns the `Verdict`."""
        passed: list[Held] = []
        standings: list[Standing] = []
        shadows: list[Rule] = []
        for rule in self.rules:
            if not rule.applies(request):
                continue
            if rule.shadow:
                shadows.append(rule)
                continue
            try:
                asked = yield from _ask(rule, request)
            except (ContextError, Rejected) as error:
                _undo(passed)
                return self._refused(error, rule, standings)
            except BaseException:
                _undo(passed)
                raise
            if rule.keyed and self.styles:
                standings += rule.standings(request, asked.key, asked.got)
            if not asked.allowed:
                _undo(passed)
                refusal = rule.refusal(asked.key, asked.cost, asked.got)
                return self._refused(refusal, rule, standings)
            passed.append(asked)
        # Last: what others refuse is nothing that a shadow would have been asked about.
        for rule in shadows:
            passed += yield from _watch(rule, request)
        held = [each for each in passed if each.rule.held or not each.rule.keyed]
        return Verdict(held, fields(standings, self.styles))

    def _refused(self, error: HastackError, rule: Rule, standings: Sequence[Standing]) -> Verdict:
        answer = problem(error, policies=[rule.name] if rule.keyed else [])
        assert answer is not None
        return Verdict((), fields(standings, self.styles), answer, error)


def _ask(rule: Rule, request: HttpRequest) -> Generator[Step, Any, Held]:
    """Take what ``rule`` wants for this request; other guards than limiters raise a refusal."""
    guard = rule.guard
    if not rule.keyed:
        if rule.waits:
            return Held(rule, None, 1.0, (yield Step(rule, request)))
        return Held(rule, None, 1.0, guard._admit(guard._clock.monotonic(), (request,), {}))
    key, cost = rule.asks(request)
    if not rule.waits:
        return Held(rule, key, cost, guard.try_acquire(key, cost))
    try:
        return Held(rule, key, cost, (yield Step(rule, request, key, cost)))
    except Rejected as error:
        return Held(rule, key, cost, rule.answer(key, cost, error))


def _watch(rule: Rule, request: HttpRequest) -> Generator[Step, Any, tuple[Held, ...]]:
    """Ask a rule in the shadow, whose mistakes are no reason to refuse either."""
    try:
        return ((yield from _ask(rule, request)),)
    except Exception as error:
        rule.guard._record(Refusal(None, 1.0, "error", None, error))
        return ()


def _undo(passed: Sequence[Held]) -> None:
    for each in reversed(passed):
        each.undo()


def decide(limits: Limits, request: HttpRequest) -> Verdict:
    """Ask the rules on this thread."""
    flow = limits.decide(request)
    try:
        step = next(flow)
        while True:
            try:
                got = step.run()
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(got)
    except StopIteration as done:
        verdict: Verdict = done.value
        return verdict


async def decide_async(limits: Limits, request: HttpRequest) -> Verdict:
    """Ask the rules on the running loop."""
    flow = limits.decide(request)
    try:
        step = next(flow)
        while True:
            try:
                got = await step.run_async()
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(got)
    except StopIteration as done:
        verdict: Verdict = done.value
        return verdict

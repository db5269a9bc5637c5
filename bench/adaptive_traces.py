"""Adaptive limits on simulated services: goodput against an oracle, tails, settling times.

A deterministic discrete-event simulation: Poisson arrivals that do not wait for answers, a service
with ``servers`` places and a queue, and clients that give up after a timeout while the service
goes on working for them. Every limiter sees the same arrivals and the same service times.

Run: ``PYTHONPATH=src python bench/adaptive_traces.py [trace ...]``
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hastack.ratelimit import CircuitBreaker
from hastack.ratelimit._gradient import (
    FAILURE,
    OVERLOAD,
    SUCCESS,
    GradientController,
    GradientRules,
)
from hastack.ratelimit._step_rule import StepCore

SERVICE = 0.05  # seconds
SERVERS = 20
CAPACITY = SERVERS / SERVICE
TIMEOUT = 1.0


@dataclass
class Trace:
    """What happens to a service, as functions of the time."""

    name: str
    length: float
    load: Callable[[float], float]  # arrivals per second
    servers: Callable[[float], int] = lambda _: SERVERS
    service: Callable[[float, random.Random], float] = lambda _, rng: rng.expovariate(1 / SERVICE)
    mean_service: Callable[[float], float] = lambda _: SERVICE
    drops: Callable[[float], float] = lambda _: 0.0  # share of calls failed at once
    errors: Callable[[float], float] = lambda _: 0.0  # share of calls that fail when served
    breaker: bool = False  # a circuit breaker stands in front of the limiter
    warm: float = 5.0  # seconds at the start that do not count
    foretold: bool = True  # the capacity is what the static limiters were told
    change: float | None = None  # when the thing happens


@dataclass
class Seen:
    """What came of a trace under one limiter."""

    good: list[float] = field(default_factory=list)  # when
    latencies: list[float] = field(default_factory=list)
    limits: list[tuple[float, float]] = field(default_factory=list)
    offered: dict[int, int] = field(default_factory=dict)  # per 0.1 s, without drops
    refused: int = 0
    timeouts: int = 0


class Unlimited:
    def admit(self, now: float) -> bool:
        return True

    def done(self, now: float, latency: float, outcome: int) -> None: ...

    def level(self, now: float) -> float:
        return 0.0


class Adaptive(Unlimited):
    """The controller of `AdaptiveLimit` with a plain counter in front."""

    def __init__(self, **settings) -> None:
        self.controller = GradientController(GradientRules(**settings), 0.0)
        self.inflight = 0

    def admit(self, now):
        if self.inflight >= self.controller.limit:
            return False
        self.inflight += 1
        return True

    def done(self, now, latency, outcome):
        self.controller.observe(now, latency, outcome, self.inflight)
        self.inflight -= 1

    def level(self, now):
        return self.controller.limit


class BehindBreaker(Unlimited):
    """A circuit breaker in front of another limiter; its times are a tenth of the defaults."""

    def __init__(self, limiter: Unlimited) -> None:
        self.limiter = limiter
        self.now = 0.0
        self.permits = deque()
        self.breaker = CircuitBreaker(window=1.0, open_for=0.5, open_factor=1.0, clock=self)

    def monotonic(self):
        return self.now

    def admit(self, now):
        self.now = now
        permit = self.breaker.try_acquire()
        if not permit:
            return False
        if not self.limiter.admit(now):
            permit.release()
            return False
        self.permits.append(permit)  # calls end about in the order in which they came
        return True

    def done(self, now, latency, outcome):
        self.now = now
        permit = self.permits.popleft()
        permit.success() if outcome == SUCCESS else permit.failure(OSError())
        self.limiter.done(now, latency, outcome)

    def level(self, now):
        return self.limiter.level(now)


ARRIVE, FINISH, GIVE_UP, DROP = range(4)


class Call:
    __slots__ = ("done", "started", "work")

    def __init__(self, started: float, work: float) -> None:
        self.started = started
        self.work = work
        self.done = False


class FixedWindow(Unlimited):
    """So many calls in each whole second, set to the capacity that was planned for."""

    def __init__(self) -> None:
        self.second = -1
        self.left = 0

    def admit(self, now):
        if int(now) != self.second:
            self.second, self.left = int(now), int(CAPACITY)
        self.left -= 1
        return self.left >= 0

    def level(self, now):
        return CAPACITY


class StaticBucket(Unlimited):
    """A token bucket with the planned capacity and a burst of a tenth of a second."""

    def __init__(self) -> None:
        self.rate = CAPACITY
        self.tokens = self.burst = CAPACITY / 10
        self.last = 0.0

    def admit(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def level(self, now):
        return self.rate


class Steps(StaticBucket):
    """`StepRule`: the same bucket, its rate driven by the last 30 s."""

    def __init__(self) -> None:
        super().__init__()
        self.core = StepCore(CAPACITY, max_p95=4 * SERVICE, min_success=0.95, now=0.0)

    def done(self, now, latency, outcome):
        self.rate = self.core.observe(now, latency, outcome != SUCCESS)


def simulate(trace: Trace, limiter: Unlimited, seed: int = 1) -> Seen:
    arrivals, services = random.Random(seed), random.Random(seed + 1)
    faults = random.Random(seed + 2)
    if trace.breaker:
        random.seed(seed)  # how long it stays open varies a little
        limiter = BehindBreaker(limiter)
    seen = Seen()
    events: list[tuple[float, int, int, Call | None]] = []
    queue: deque[Call] = deque()
    busy = order = 0
    next_level = 0.0

    def push(when: float, kind: int, call: Call | None) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, kind, call))

    def serve(now: float) -> None:
        nonlocal busy
        while queue and busy < trace.servers(now):
            call = queue.popleft()
            busy += 1
            push(now + call.work, FINISH, call)

    push(arrivals.expovariate(trace.load(0.0)), ARRIVE, None)
    while events:
        now, _, kind, call = heapq.heappop(events)
        if now > trace.length:
            break
        while now >= next_level:
            seen.limits.append((next_level, limiter.level(next_level)))
            next_level += 0.1
        if kind == ARRIVE:
            push(now + arrivals.expovariate(trace.load(now)), ARRIVE, None)
            fresh = Call(now, trace.service(now, services))
            dropped = services.random() < trace.drops(now)
            if not dropped:
                tick = int(now * 10)
                seen.offered[tick] = seen.offered.get(tick, 0) + 1
            if not limiter.admit(now):
                seen.refused += 1
            elif dropped:
                push(now + 0.001, DROP, fresh)
            else:
                queue.append(fresh)
                push(now + TIMEOUT, GIVE_UP, fresh)
                serve(now)
            continue
        assert call is not None
        if kind == FINISH:
            busy -= 1
            if not call.done:
                call.done = True
                latency = now - call.started
                if faults.random() < trace.errors(now):
                    limiter.done(now, latency, FAILURE)
                else:
                    limiter.done(now, latency, SUCCESS)
                    seen.good.append(now)
                    seen.latencies.append(latency)
            serve(now)
        elif kind == GIVE_UP and not call.done:
            call.done = True
            seen.timeouts += 1
            limiter.done(now, TIMEOUT, OVERLOAD)
        elif kind == DROP:
            limiter.done(now, 0.001, FAILURE)
    return seen


def step(before, after, at):
    return lambda now: before if now < at else after


def pulse(normal, other, start, end):
    return lambda now: other if start <= now < end else normal


def traces() -> list[Trace]:
    slow = pulse(SERVICE, 2 * SERVICE, 20.0, 40.0)
    brown = pulse(SERVICE, SERVICE / 0.3, 10.0, 13.0)
    demo = pulse(SERVICE, SERVICE / 0.3, 3.0, 6.0)
    return [
        Trace("half load", 40.0, lambda _: 0.5 * CAPACITY),
        Trace("90 % load", 40.0, lambda _: 0.9 * CAPACITY),
        Trace("load x2", 60.0, step(0.5 * CAPACITY, 2 * CAPACITY, 20.0), change=20.0),
        Trace("load x4", 60.0, step(0.5 * CAPACITY, 4 * CAPACITY, 20.0), change=20.0),
        Trace(
            "servers halve",
            60.0,
            lambda _: 2 * CAPACITY,
            servers=step(SERVERS, SERVERS // 2, 30.0),
            change=30.0,
        ),
        Trace(
            "servers double",
            60.0,
            lambda _: 4 * CAPACITY,
            servers=step(SERVERS, SERVERS * 2, 30.0),
            change=30.0,
        ),
        Trace(
            "service slows x2, 20 s",
            60.0,
            lambda _: 2 * CAPACITY,
            service=lambda now, rng: rng.expovariate(1 / slow(now)),
            mean_service=slow,
            change=20.0,
        ),
        Trace(
            "blip 0.5 s",
            60.0,
            lambda _: 0.9 * CAPACITY,
            servers=pulse(SERVERS, 1, 30.0, 30.5),
            change=30.0,
        ),
        Trace("cold start at x2", 40.0, lambda _: 2 * CAPACITY),
        Trace("low rps", 120.0, lambda _: 4.0),
        Trace(
            "fast-fail drops 30 %",
            60.0,
            lambda _: 2 * CAPACITY,
            drops=pulse(0.0, 0.3, 20.0, 40.0),
            change=20.0,
        ),
        Trace(
            "bimodal 80 % 5 ms, 20 % 230 ms",
            60.0,
            step(0.5 * CAPACITY, 2 * CAPACITY, 20.0),
            service=lambda _, rng: rng.expovariate(1 / (0.005 if rng.random() < 0.8 else 0.23)),
            change=20.0,
        ),
        Trace(
            "brown-out 3 s behind a breaker",
            30.0,
            lambda _: 2 * CAPACITY,
            service=lambda now, rng: rng.expovariate(1 / brown(now)),
            mean_service=brown,
            errors=pulse(0.0, 0.6, 10.0, 13.0),
            breaker=True,
            change=13.0,
        ),
        # `hastack demo`: a cold start with far too high a limit, then the brown-out, all counts.
        Trace(
            "8 servers, cold, brown-out 3-6 s",
            25.0,
            lambda _: 2 * 8 / SERVICE,
            servers=lambda _: 8,
            service=lambda now, rng: demo(now) * (0.5 + rng.random()),
            mean_service=demo,
            errors=pulse(0.0, 0.6, 3.0, 6.0),
            breaker=True,
            warm=0.0,
            foretold=False,
            change=6.0,
        ),
        Trace("30 min overload x2", 1800.0, lambda _: 2 * CAPACITY),
    ]


def oracle(trace: Trace, seen: Seen, start: float, end: float) -> float:
    """Calls that a limiter which knew everything would bring to success."""
    total, now = 0.0, start
    while now < end - 1e-9:
        until = min(now + 1.0, end)
        ticks = range(round(now * 10), round(until * 10))
        arrived = sum(seen.offered.get(tick, 0) for tick in ticks)
        middle = (now + until) / 2
        capacity = trace.servers(middle) / trace.mean_service(middle) * (until - now)
        capacity *= 1.0 - trace.errors(middle)
        total += min(arrived, capacity)
        now = until
    return total


def rate_between(times: list[float], start: float, end: float) -> float:
    return sum(1 for at in times if start <= at < end)


def settle_time(trace: Trace, seen: Seen) -> float | None:
    """Seconds after the change from which on every 2 s are near the oracle, for 8 s.

    Near: at least 85 % of its goodput (2 s hold some hundred calls, so sampling alone makes
    several per cent) and a mean latency of at most twice the service time of the moment.
    """
    if trace.change is None:
        return None
    good_since = None
    at = trace.change
    while at + 2.0 <= trace.length:
        end = at + 2.0
        share = rate_between(seen.good, at, end) / oracle(trace, seen, at, end)
        recent = [
            latency
            for when, latency in zip(seen.good, seen.latencies, strict=True)
            if at <= when < end
        ]
        mean = sum(recent) / len(recent) if recent else TIMEOUT
        if share < 0.85 or mean > 2.0 * trace.mean_service(end - 0.01):
            good_since = None
        elif good_since is None:
            good_since = at
        elif at - good_since >= 6.0:
            return good_since - trace.change
        at += 0.25
    return None


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def mean_level(seen: Seen, start: float, end: float) -> float:
    levels = [level for at, level in seen.limits if start <= at < end]
    return sum(levels) / len(levels) if levels else 0.0


def report(trace: Trace, name: str, seen: Seen) -> None:
    warm = trace.warm
    share = rate_between(seen.good, warm, trace.length) / oracle(trace, seen, warm, trace.length)
    settle = settle_time(trace, seen)
    levels = [level for at, level in seen.limits if at >= warm]
    settled = "-" if trace.change is None else "never" if settle is None else f"{settle:.1f}"
    print(
        f"| {trace.name} | {name} | {share:.1%} | {percentile(seen.latencies, 0.5) * 1e3:.0f} "
        f"| {percentile(seen.latencies, 0.99) * 1e3:.0f} | {seen.timeouts} | {settled} "
        f"| {min(levels):.0f} / {sum(levels) / len(levels):.0f} / {max(levels):.0f} |",
        flush=True,
    )
    if trace.length > 600:
        first, last = mean_level(seen, 30.0, 330.0), mean_level(seen, 1500.0, 1800.0)
        print(f"  drift of the level, minutes 25-30 against 0.5-5.5: {last / first - 1:+.1%}")
    if trace.name.startswith("blip") and max(levels) > 0:
        before = mean_level(seen, trace.change - 10, trace.change)
        after = mean_level(seen, trace.change + 1, trace.change + 6)
        print(f"  mean level 1-6 s after the blip against 10 s before: {after / before - 1:+.1%}")


LIMITERS = {
    "none": Unlimited,
    "fixed window": FixedWindow,
    "static bucket": StaticBucket,
    "StepRule": Steps,
    "AdaptiveLimit": Adaptive,
}


def main(wanted: list[str]) -> None:
    unloaded = percentile([random.Random(i).expovariate(1 / SERVICE) for i in range(10_000)], 0.99)
    print(f"{SERVERS} servers x {SERVICE * 1e3:.0f} ms (exponential): {CAPACITY:.0f} calls/s;")
    print(f"P99 of a call that never queues: {unloaded * 1e3:.0f} ms; timeout {TIMEOUT:.0f} s.\n")
    print("| trace | limiter | goodput/oracle | P50 ms | P99 ms | timeouts | settle s | level |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    for trace in traces():
        if wanted and not any(word in trace.name for word in wanted):
            continue
        for name, limiter in LIMITERS.items():
            if trace.length > 600 and name not in {"AdaptiveLimit", "StepRule"}:
                continue
            if not trace.foretold and name != "AdaptiveLimit":
                continue
            report(trace, name, simulate(trace, limiter()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""How many calls a dependency takes at once, learnt from how it answers.

One idea carries all of it. Below the knee, more calls in flight bring more throughput at the same
latency; above it, the same throughput at a higher latency (Little's law: calls in flight =
throughput x latency). So the limit follows ``tolerance`` x throughput x latency without queueing,
and everything else is about knowing that last number, the baseline, without being fooled:

- The latency at the limit says nothing about the baseline while the limit is in use. From time to
  time the limit *dips* a little below the estimated knee for some round trips, which costs about
  one per cent of throughput and keeps the baseline from following a long overload upwards. It
  never drops to a minimum to take measure.
- A cut is an experiment. If fewer calls in flight do not bring the latency down, they were not
  the reason: the dependency has become slower, the baseline moves up and the limit comes back.

Pure: time is an argument.
"""

from __future__ import annotations

from math import inf, log, sqrt
from typing import Final, final

SUCCESS: Final = 0
FAILURE: Final = 1
"""Answered, but with an error: neither its latency nor its haste says anything about load."""
OVERLOAD: Final = 2
"""Timed out, or the dependency said that it is overloaded."""
IGNORED: Final = 3

DIP_DEPTH: Final = 0.8
"""A dip goes to this share of the estimated knee."""
BAD: Final = 1.15
"""A period is bad when its mean latency is above this multiple of what is aimed at."""
PRECISION: Final = 0.12
"""Relative standard error of a mean latency that is good enough to act on."""
MEMORY: Final = 2000
"""Calls of which the baseline is the running mean; a significant change shortens it at once."""
RECALL: Final = 10.0
"""Seconds after a cut in which the limit before it may come back in one step."""
STALE: Final = 60.0
"""Seconds after which a period without enough calls starts over."""
SETTLE: Final = 10.0
"""Longest time in seconds for which outcomes are passed over after the limit moved."""
PAUSE: Final = 8.0
"""So many times the mean time between calls with nothing in flight is no mere chance."""

STEADY: Final = 0
DIP: Final = 1
"""The limit is below the knee for a moment, to see the latency without queueing."""


@final
class GradientRules:
    """Settings of a controller, already validated; see `AdaptiveLimit` for their meaning."""

    def __init__(
        self,
        *,
        min_limit: int = 1,
        max_limit: int = 1000,
        initial: int = 20,
        tolerance: float = 1.5,
        max_healthy_latency: float = inf,
        period: float = 0.25,
        min_samples: int = 40,
        dip_every: float = 5.0,
    ) -> None:
        self.min_limit: float = float(min_limit)
        self.max_limit: float = float(max_limit)
        self.initial: float = float(initial)
        self.tolerance: float = tolerance
        self.max_healthy_latency: float = max_healthy_latency
        self.period: float = period
        self.min_samples: int = min_samples
        self.dip_every: float = dip_every


@final
class GradientController:
    """Turns outcomes into a concurrency limit. The caller serialises the methods.

    Attributes:
        limit: Calls that may be in flight.
        baseline: Seconds a call takes without queueing; 0.0 until known.
        throughput: Successes per second in the last judged period.
    """

    def __init__(self, rules: GradientRules, now: float) -> None:
        self.rules: GradientRules = rules
        self.goal: float = rules.initial
        self.limit: int = int(rules.initial)
        self.baseline: float = 0.0
        self.evidence: int = 0
        self.knee: float = 0.0
        self.latency: float = 0.0
        self.throughput: float = 0.0
        self.phase: int = STEADY
        self.bad: int = 0
        self.bad_count: int = 0
        self.bad_length: float = 0.0
        self.next_dip: float = now + 1.0  # the first baseline is a guess
        self.before_inflight: float = 0.0
        self.before_latency: float = 0.0
        self.last_good: float = rules.initial
        self.recall_until: float = now - RECALL
        self.began: float = now
        self.count: int = 0
        self.total: float = 0.0
        self.squares: float = 0.0
        self.failures: int = 0
        self.overloads: int = 0
        self.full: int = 0
        self.idle_since: float = inf

    def follow(self, rules: GradientRules) -> None:
        """Go on under other ``rules``, with everything that was learnt."""
        self.rules = rules
        self.goal = min(max(self.goal, rules.min_limit), rules.max_limit)
        self.limit = min(max(self.limit, int(rules.min_limit)), int(rules.max_limit))

    def observe(self, now: float, latency: float, outcome: int, inflight: int) -> int:
        """Take the outcome of one call and return the limit.

        Args:
            now: When the call ended.
            latency: Seconds it took.
            outcome: One of the constants of this module.
            inflight: Calls in flight when it ended, itself included.
        """
        idle_since, self.idle_since = self.idle_since, now if inflight <= 1 else inf
        if now < self.began:
            if self.began - now > 4.0 * SETTLE:
                self._begin(now)  # the clock went backwards
            return self.limit  # calls from before the last change still drain
        if idle_since < inf:
            self._leave_out(idle_since, now - latency)
        if outcome == FAILURE:
            self.failures += 1
        elif outcome == OVERLOAD:
            self.overloads += 1
        elif outcome == SUCCESS:
            if self.baseline and latency > 10.0 * self.baseline:
                latency = 10.0 * self.baseline  # one straggler must not speak for all
            if latency < 1e-6:  # clocks have a grain, and some go backwards
                latency = 1e-6
            self.count += 1
            self.total += latency
            self.squares += latency * latency
        if inflight >= self.limit:
            self.full += 1
        if now - self.began >= self.rules.period:
            if self._tells(now):
                self._judge(now)
            elif now - self.began >= STALE:
                self._begin(now)
        return self.limit

    def _leave_out(self, since: float, until: float) -> None:
        """Nothing was in flight for a while: was that the traffic's own pace?

        If not, say because a circuit breaker was open, the time does not count. Counted in, it
        would look as if the throughput had collapsed, and every conclusion from Little's law
        would be wrong.
        """
        pause = until - since
        if pause <= self.rules.period:
            return
        calls = self.count + self.failures + self.overloads
        if not calls or pause >= STALE:
            self._begin(max(self.began, until))
        elif pause * calls > PAUSE * (since - self.began):
            self.began += pause

    def _tells(self, now: float) -> bool:
        """Whether the period holds enough calls for its mean latency to mean something."""
        count = self.count
        if count + self.overloads < self.rules.min_samples:
            return False
        # The standard error of the mean is at most PRECISION of it, written without divisions.
        wanted = self.total * self.total * (1.0 + PRECISION * PRECISION * count)
        longest = 4.0 if self.phase == DIP else 8.0
        return self.squares * count <= wanted or now - self.began >= longest * self.rules.period

    def _judge(self, now: float) -> None:
        rules = self.rules
        count = self.count
        length = now - self.began
        if not count:
            self._worse(now, 0, length, self.latency)
            return
        latency = self.latency = self.total / count
        if not self.baseline:
            self._learn(latency)
        if self.phase == DIP:
            self._end_dip(now, latency)
            return
        self.throughput = count / length
        self.knee += (0.2 if self.knee else 1.0) * (self.throughput * self.baseline - self.knee)
        ratio = latency / self.baseline
        # A call that timed out tells only that it took longer; it must weigh like a slow one.
        ratio += 2.0 * rules.tolerance * self.overloads / (count + self.overloads)
        if ratio < 0.9 * rules.tolerance:
            self.before_inflight = 0.0  # whatever was cut, it helped
        elif self._in_vain(self.throughput * latency, latency):
            self._take_back(now, latency)
            return
        if ratio > BAD * rules.tolerance:
            self._worse(now, count, length, latency)
            return
        self.bad = 0
        if now < self.recall_until and self.goal < self.last_good and ratio < 1.2:
            # No queue at all any more: that was a blip, go back at once.
            self.recall_until = now  # only once; a cut soon after it counts for real
            self._set(self.last_good, now, latency, STEADY)
        else:
            self._steer(now, latency, ratio)

    def _end_dip(self, now: float, latency: float) -> None:
        """Back to where the limit was, with a look at the latency without queueing."""
        self.next_dip = now + self.rules.dip_every
        # Much higher than thought is no queue of ours; steady periods will deal with it.
        ceiling = BAD * self.rules.tolerance * self.baseline
        if latency > ceiling or self.overloads * 20 > self.count:
            self._set(self.goal, now, latency, STEADY)
            return
        gap = self.baseline - latency
        if gap > 0.1 * self.baseline and gap > 1.5 * self._spread(latency):
            # Much lower than thought: the old baseline held queueing, and calls may queue even
            # down here, so look further down at once. All that went into the old baseline is
            # void; kept in part, it would make the next dip look like progress for ever.
            self.evidence = 0
            self._learn(latency)
            # Answers that come more slowly than at the limit are below the knee already.
            knee = max(self.count / (now - self.began), self.throughput) * latency
            self.last_good = min(self.last_good, self.rules.tolerance * knee)
            self._set(DIP_DEPTH * knee, now, latency, DIP)
        else:
            self._learn(latency)
            self._set(self.goal, now, latency, STEADY)

    def _steer(self, now: float, latency: float, ratio: float) -> None:
        """Nothing is wrong: move towards the latency that is aimed at, as far as it is used."""
        rules = self.rules
        inflight = self.throughput * latency
        if inflight < DIP_DEPTH * self.goal / rules.tolerance:
            self._learn(latency)
            self.next_dip = now + rules.dip_every
        calls = self.count + self.failures + self.overloads
        if 3 * self.full >= calls and now >= self.next_dip:
            self._set(DIP_DEPTH * self.knee, now, latency, DIP)
            return
        wanted = self.goal * rules.tolerance / ratio
        grows = wanted > self.goal
        pressure = min(1.0, 5.0 * self.full / calls)
        if grows and (2.0 * inflight < self.goal or self.failures * 20 > calls):
            pressure = 0.0  # room that nobody uses, or answers that prove nothing
        if pressure < (0.1 if grows else 1.0):
            self._begin(now)
            return
        # Without any queue there is nothing to overshoot: the aim itself is the next limit.
        step = pressure * (0.3 if wanted < 1.3 * self.goal else 1.0)
        self._set(self.goal + step * (wanted - self.goal), now, latency, STEADY)

    def _worse(self, now: float, count: int, length: float, latency: float) -> None:
        """A bad period: hold at first, then cut, then ask whether cutting helps."""
        self.bad += 1
        if self.bad == 1:
            self.bad_count, self.bad_length = count, length
            self._begin(now)
            return
        if self.bad == 2:
            if not self.before_inflight:
                self.before_inflight, self.before_latency = count / length * latency, latency
            if now >= self.recall_until + RECALL:
                self.last_good = self.goal
                self.recall_until = now + RECALL
            # Twice the evidence: the throughput of both periods.
            count, length = count + self.bad_count, length + self.bad_length
        wanted = self.rules.tolerance * count / length * self.baseline
        self._set(min(self.goal, max(wanted, 0.5 * self.goal)), now, latency, STEADY)

    def _in_vain(self, inflight: float, latency: float) -> bool:
        """Whether cuts have not brought the latency down, so that load was not the reason."""
        if self.overloads or not self.before_inflight:
            return False
        if self.bad >= 8:
            return True  # queues would be gone by now
        surely = latency - self._spread(latency)
        if surely <= 0.0 or self.before_inflight < 1.6 * inflight:
            return False
        lowered = log(self.before_inflight / inflight)
        return log(self.before_latency / surely) < 0.6 * lowered

    def _take_back(self, now: float, latency: float) -> None:
        """The dependency has become slower: this is its latency now, and there is room again."""
        self.before_inflight = 0.0
        self.bad = 0
        self.evidence = 0
        self._learn(latency)
        room = self.rules.tolerance * self.throughput * latency
        self._set(max(self.goal, room), now, latency, STEADY)

    def _learn(self, latency: float) -> None:
        """Move the baseline towards a latency that was seen below the knee."""
        spread = self._spread(latency)
        gap = latency - self.baseline
        significant = abs(gap) > 3.0 * spread and self.evidence > 0
        if significant:
            self.evidence = self.count
        self.evidence = min(self.evidence + self.count, MEMORY)
        self.baseline += gap * self.count / self.evidence
        self.baseline = min(self.baseline, self.rules.max_healthy_latency)

    def _spread(self, latency: float) -> float:
        """Standard error of the period's mean latency."""
        return sqrt(max(0.0, self.squares / self.count - latency * latency) / self.count)

    def _set(self, goal: float, now: float, latency: float, phase: int) -> None:
        rules = self.rules
        if phase == DIP:
            goal = min(goal, self.goal)
        else:
            goal = self.goal = min(max(goal, rules.min_limit), rules.max_limit)
        self.phase = phase
        limit = max(int(goal + 0.5), int(rules.min_limit))
        # Let those leave that came in under the other limit, and after a cut their queue as well.
        settle = 0.0 if limit == self.limit else latency if limit > self.limit else 1.5 * latency
        self.limit = limit
        self._begin(now + min(settle, SETTLE))

    def _begin(self, at: float) -> None:
        self.began = at
        self.count = self.failures = self.overloads = self.full = 0
        self.total = self.squares = 0.0

"""A client that obeys: never more than the server said, whatever the network does."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hastack.ratelimit._server_book import ServerBook
from hastack.ratelimit._server_fields import Said, read_limits


class FixedWindowServer:
    """Counts in windows on its own clock; says what is left and for how many whole seconds."""

    def __init__(self, quota, window):
        self.quota, self.window = quota, window
        self.number, self.used = -1, 0

    def serve(self, now):
        number = math.floor(now / self.window)
        if number != self.number:
            self.number, self.used = number, 0
        allowed = self.used < self.quota
        self.used += allowed
        left = (number + 1) * self.window - now
        said = Said("p", "", self.quota - self.used, float(math.ceil(left)), self.window)
        return allowed, said


class BucketServer:
    """A token bucket, which says when the next token comes and not when it is full."""

    def __init__(self, quota, window):
        self.quota, self.window = quota, window
        self.level, self.at = float(quota), 0.0

    def serve(self, now):
        rate = self.quota / self.window
        self.level = min(self.quota, self.level + (now - self.at) * rate)
        self.at = now
        allowed = self.level >= 1.0
        if allowed:
            self.level -= 1.0
        # With everything used that is left, the next token comes then: what an honest t says.
        wait = (1.0 - self.level % 1.0) / rate
        return allowed, Said("p", "", int(self.level), float(max(1, math.ceil(wait))), self.window)


class Obedient(RuleBasedStateMachine):
    """One client alone with a server; requests and answers take any time and any order."""

    def __init__(self):
        super().__init__()
        self.book = ServerBook(4)
        self.server = None
        self.now = 0.0
        self.sent = []  # not yet at the server
        self.answers = []  # not yet at the client
        self.known = False

    @precondition(lambda self: self.server is None)
    @rule(
        kind=st.sampled_from([FixedWindowServer, BucketServer]),
        quota=st.integers(1, 8),
        window=st.sampled_from([1.0, 3.0, 10.0]),
    )
    def begin(self, kind, quota, window):
        self.server = kind(quota, window)
        # The first request finds out; until then the server has said nothing.
        assert self.book.send("k", self.now) == 0.0
        mark = self.book.heard("k")
        _, said = self.server.serve(self.now)
        self.book.answered("k", mark, self.now, [said], None)

    @precondition(lambda self: self.server)
    @rule(many=st.integers(1, 5))
    def send(self, many):
        for _ in range(many):
            if self.book.send("k", self.now) == 0.0:
                self.sent.append(self.book.heard("k"))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def arrive(self, data):
        mark = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        allowed, said = self.server.serve(self.now)
        assert allowed, "the server had to refuse"
        self.answers.append((mark, said))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def hear(self, data):
        mark, said = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.book.answered("k", mark, self.now, [said], None)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def cut(self, data):
        """The server served it, and the answer is lost."""
        mark, _ = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        self.book.answered("k", mark, self.now, [], None)

    @precondition(lambda self: self.sent)
    @rule()
    def give_up(self):
        """Cancelled before it left."""
        self.sent.pop()
        self.book.unsent("k")

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.5, 11.0]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def nobody_waits_for_ever(self):
        if self.server is None:
            return
        wait = self.book.wait_of("k", self.now)
        under_way = len(self.sent) + len(self.answers)
        assert wait < math.inf or under_way, "nobody is left who could wake the waiters"
        assert self.book.accounts["k"].under_way == under_way


TestObedient = Obedient.TestCase
TestObedient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(
    st.integers(1, 20),
    st.sampled_from([1.0, 2.0, 5.0]),
    st.sampled_from([FixedWindowServer, BucketServer]),
)
@settings(max_examples=60, deadline=None)
def test_it_does_not_starve(quota, window, kind):
    """Sequential calls get at least half of what the server would have given."""
    book, server = ServerBook(4), kind(quota, window)
    now, served = 0.0, 0
    while now < 20 * window:
        wait = book.send("k", now)
        assert wait < math.inf
        if wait > 0.0:
            now += wait
            continue
        mark = book.heard("k")
        allowed, said = server.serve(now)
        assert allowed
        served += 1
        now += 0.001
        book.answered("k", mark, now, [said], None)
    rate = quota / window
    # A bucket says whole seconds until its next token: rates above one a second wait for several.
    assert served >= 0.5 * rate * 20 * window - quota


@given(st.dictionaries(st.sampled_from([
    "RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
]), st.text(max_size=60) | st.text('";=,rtqwpk0123456789: ', max_size=60)))  # fmt: skip
def test_whatever_a_server_writes_is_read_without_an_error(headers):
    for said in read_limits(headers.get, 1.7e9):
        assert said.remaining >= 0
        assert said.reset is None or 0.0 <= said.reset <= 366 * 86400
        assert said.window is None or said.window > 0.0

"""Limits that a server says, and the client that keeps to them."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from hastack import context, events, ratelimit
from hastack.errors import DeadlineExceeded, InvalidArgument, RateLimited
from hastack.ratelimit._server_book import Mark, ServerBook
from hastack.ratelimit._server_fields import Said, read_limits
from hastack.testing import ManualClock

NOW = 1_700_000_000.0
START = Mark(0, 0)


def read(**headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_limits(named.get, NOW)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, []),
        ({"RateLimit": '"api";r=42;t=17'}, [Said("api", "", 42, 17.0, None)]),
        (
            {"RateLimit": '"api";r=42;t=17', "RateLimit_Policy": '"api";q=100;w=60'},
            [Said("api", "", 42, 17.0, 60.0)],
        ),
        (
            {"RateLimit": '"a" ; r=1 , "b";r=0;t=5;pk=:YQ==:', "RateLimit_Policy": '"b";q=9;w=0'},
            [Said("a", "", 1, None, None), Said("b", ":YQ==:", 0, 5.0, None)],
        ),
        ({"RateLimit": "tok/en;r=3"}, [Said("tok/en", "", 3, None, None)]),
        ({"RateLimit": '"a";r=3;flag;x=?1;y="z"'}, [Said("a", "", 3, None, None)]),
        ({"RateLimit": '"a";t=5'}, []),  # r is required
        ({"RateLimit": '"a";r=-1'}, []),
        ({"RateLimit": '"a";r=1.5'}, []),
        ({"RateLimit": '"a";r=1,'}, []),
        ({"RateLimit": '"a";r=1 "b";r=2'}, []),
        ({"RateLimit": "5;r=1"}, []),
        ({"RateLimit": '"a;r=1'}, []),
        ({"RateLimit": ""}, []),
        ({"RateLimit": '"a";r=1;t=99999999999'}, [Said("a", "", 1, None, None)]),
        ({"RateLimit": '"a";r=1;' + "x" * 5000}, []),
        ({"RateLimit": '"a";r=1', "RateLimit_Policy": '"a";q=1;qu="content-bytes"'}, []),
        ({"RateLimit": "limit=10, remaining=5, reset=30"}, [Said("", "", 5, 30.0, None)]),
        ({"RateLimit": "limit=10, reset=30"}, []),
        ({"RateLimit": "limit=10, remaining=5, oops"}, []),
        (
            {
                "RateLimit_Limit": "100, 100;w=60",
                "RateLimit_Remaining": " 7 ",
                "RateLimit_Reset": "9",
            },
            [Said("", "", 7, 9.0, 60.0)],
        ),
        ({"RateLimit_Remaining": "7"}, [Said("", "", 7, None, None)]),
        ({"RateLimit_Remaining": "7", "RateLimit_Reset": "soon"}, [Said("", "", 7, None, None)]),
        (
            {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) + 30)},
            [Said("", "", 0, 30.0, None)],
        ),
        (
            {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(NOW) - 30)},
            [Said("", "", 0, 0.0, None)],
        ),
        ({"RateLimit_Policy": '"api";q=100;w=60'}, []),
    ],
)
def test_fields(headers, expected):
    assert read(**headers) == expected


def test_at_most_so_many_items():
    assert len(read(RateLimit=", ".join(f'"p{i}";r=1' for i in range(100)))) == 32


def answer(book, key="k", *, remaining, reset, now, policy="p", window=None, mark=None):
    mark = book.heard(key) if mark is None else mark
    book.answered(key, mark, now, [Said(policy, "", remaining, reset, window)], None)


def test_every_policy_of_a_key_counts_and_the_others_are_charged():
    book = ServerBook(10)
    assert book.send("k", 0.0) == 0.0
    said = [Said("a", "", 5, 10.0, None), Said("b", "", 2, 60.0, None)]
    book.answered("k", START, 0.0, said, None)
    assert book.send("k", 1.0) == 0.0
    answer(book, policy="a", remaining=4, reset=9.0, now=1.0)  # says nothing of b
    assert book.send("k", 2.0) == 0.0
    assert book.send("k", 2.0) == 58.0  # b: one left, and one under way
    assert book.wait_of("other", 2.0) == 0.0


def test_a_late_word_is_only_believed_when_it_is_bad():
    book = ServerBook(10)
    for _ in range(3):
        book.send("k", 0.0)
    answer(book, remaining=1, reset=10.0, now=0.0, mark=START)
    answer(book, remaining=9, reset=10.0, now=0.0, mark=START)  # asked before, heard after
    assert book.wait_of("k", 0.0) == 10.0
    answer(book, remaining=0, reset=None, now=0.0, mark=START, window=20.0)
    assert book.wait_of("k", 0.0) == 20.0


def test_a_late_word_knows_nothing_of_an_answer_that_was_lost():
    book = ServerBook(10)
    book.send("k", 0.0)
    answer(book, remaining=3, reset=10.0, now=0.0)  # of four
    first = book.heard("k")
    for _ in range(3):
        assert book.send("k", 0.0) == 0.0
    book.answered("k", first, 0.0, [], None)
    book.answered("k", first, 0.0, [], None)  # the last of the three
    answer(book, remaining=1, reset=10.0, now=0.0, mark=first)  # the one before
    assert book.wait_of("k", 0.0) == 10.0


def test_the_first_word_of_the_next_window_counts():
    book = ServerBook(10)
    for _ in range(3):
        book.send("k", 0.0)
    answer(book, remaining=0, reset=1.0, now=0.0, window=10.0, mark=START)
    answer(book, remaining=8, reset=10.0, now=0.9, window=10.0, mark=START)
    assert book.wait_of("k", 0.9) == 0.0


def test_after_the_reset_one_asks_and_then_the_others():
    book = ServerBook(10)
    book.send("k", 0.0)
    answer(book, remaining=0, reset=5.0, now=0.0)
    assert book.send("k", 4.0) == 1.0
    assert book.send("k", 5.0) == 0.0
    assert book.send("k", 5.0) == float("inf")
    assert book.slot_in("k", 0.0, 1.0, 5.0) == 0.0
    answer(book, remaining=3, reset=5.0, now=5.1)
    assert book.send("k", 5.1) == 0.0


def test_a_probe_without_an_answer_is_not_the_last():
    book = ServerBook(10)
    book.send("k", 0.0)
    answer(book, remaining=0, reset=5.0, now=0.0)
    assert book.send("k", 5.0) == 0.0
    book.answered("k", book.heard("k"), 6.0, [], None)
    assert book.send("k", 6.0) == 1.0
    assert book.send("k", 7.0) == 0.0
    book.unsent("k")
    assert book.send("k", 7.0) == 0.0


def test_a_late_word_ends_an_open_question():
    book = ServerBook(10)
    book.send("k", 0.0)
    book.send("k", 0.0)
    answer(book, remaining=0, reset=5.0, now=0.0, mark=START)
    book.unsent("k")
    book.send("k", 5.0)
    answer(book, remaining=2, reset=4.0, now=5.0, mark=START)
    assert book.wait_of("k", 5.0) == 0.0
    book.send("k", 5.0)
    assert book.wait_of("k", 5.0) == 4.0


def test_retry_after_shuts_everything():
    book = ServerBook(10)
    book.send("k", 0.0)
    book.answered("k", START, 0.0, [Said("p", "", 9, 1.0, None)], 30.0)
    assert book.wait_of("k", 10.0) == 20.0


def test_a_forked_child_owes_no_answers():
    book = ServerBook(3)
    book.send("k", 0.0)
    answer(book, remaining=1, reset=9.0, now=0.0)
    book.send("k", 0.0)
    mark = book.heard("k")
    book.forget_callers()
    assert book.wait_of("k", 0.0) == 0.0
    assert book.heard("k") != mark
    book.send("k", 0.0)
    book.charge("k", -1.0, 0.0)
    assert book.accounts["k"].under_way == 0


def test_nobody_overtakes_those_in_line(clock):
    polite = ratelimit.ServerLimits(clock=clock)
    polite(lambda: SimpleNamespace(status=200, headers={"RateLimit": '"a";r=0;t=5'}))()

    async def main():
        first = asyncio.ensure_future(polite(_nothing)())
        await asyncio.sleep(0)
        with pytest.raises(RateLimited):
            polite._admit(clock.monotonic(), (), {})
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    clock.run(main())


async def _nothing():
    pass


def test_accounts_are_bounded():
    book = ServerBook(3)
    for key in "abcd":
        assert book.send(key, 0.0) == 0.0
    assert set(book.accounts) == {"b", "c", "d"}  # all have requests under way
    book.answered("a", START, 0.0, [], None)
    book.unsent("a")
    assert book.heard("a") == START
    book.answered("c", START, 0.0, [Said("p", "", 0, 9.0, None)], None)
    book.send("e", 0.0)
    assert set(book.accounts) == {"b", "d", "e"}  # nothing is under way for c, if not idle
    book.unsent("d")
    book.send("f", 0.0)
    assert set(book.accounts) == {"b", "e", "f"}
    for number in range(100):
        book.send("b", 0.0)
        answer(book, "b", policy=str(number), remaining=200, reset=number + 1.0, now=0.0)
    assert len(book.accounts["b"].policies) == 32


def test_a_shut_account_is_not_idle():
    book = ServerBook(2)
    for key in "ab":
        book.send(key, 0.0)
    book.answered("a", START, 0.0, [], 50.0)
    book.answered("b", START, 0.0, [Said("p", "", 1, 5.0, None)], None)
    book.send("c", 10.0)
    assert set(book.accounts) == {"a", "c"}


class Server:
    """Answers with what is left of ten in ten seconds, on the test's clock."""

    def __init__(self, clock, quota=10):
        self.clock, self.quota = clock, quota
        self.number, self.used, self.refused = -1, 0, 0

    def get(self, url="http://api:80/"):
        number = int(self.clock.monotonic() // 10)
        if number != self.number:
            self.number, self.used = number, 0
        self.used += 1
        if self.used > self.quota:
            self.refused += 1
            return SimpleNamespace(status_code=429, headers={"Retry-After": "3"})
        left = 10 - self.clock.monotonic() % 10
        value = f'"d";r={self.quota - self.used};t={int(left)}'
        return SimpleNamespace(status_code=200, headers={"RateLimit": value})


@pytest.fixture
def clock():
    return ManualClock(start=100.0)


def test_a_loop_is_never_refused_and_sleeps_for_the_reset(clock):
    server = Server(clock)
    get = ratelimit.ServerLimits(clock=clock)(server.get)
    for _ in range(35):
        get()
    assert server.refused == 0
    assert clock.monotonic() == 130.0


def test_tasks_wait_in_line(clock):
    server = Server(clock, quota=5)

    async def get():
        return server.get()

    async def main():
        guarded = ratelimit.ServerLimits(clock=clock)(get)
        await guarded()
        async with asyncio.timeout(1000.0):
            return await asyncio.gather(*(guarded() for _ in range(20)))

    found = clock.run(main())
    assert [each.status_code for each in found] == [200] * 20
    assert server.refused == 0


def test_refused_here_before_the_server_has_to(clock):
    server = Server(clock, quota=1)
    polite = ratelimit.ServerLimits(max_wait=0.0, name="api", clock=clock)
    get = polite(server.get)
    get()
    with events.record(ratelimit.RequestRejected) as seen, pytest.raises(RateLimited) as info:
        get()
    assert info.value.retry_after == 10.0
    assert (seen[0].name, seen[0].retry_after) == ("api", 10.0)
    assert polite.peek() == 10.0
    short = ratelimit.ServerLimits(max_wait=5.0, clock=clock)
    get = short(lambda: SimpleNamespace(status=503, headers={"Retry-After": "6"}))
    get()
    with pytest.raises(RateLimited):
        get()
    assert server.used == 1


def test_errors_that_carry_a_response_teach_and_others_count(clock):
    class StatusError(Exception):
        response = SimpleNamespace(status_code=429, headers={"Retry-After": "7"})

    polite = ratelimit.ServerLimits(max_wait=0.0, clock=clock)

    def fail(error):
        raise error

    with pytest.raises(StatusError):
        polite(lambda: fail(StatusError()))()
    assert polite.peek() == 7.0
    clock.advance(7.0)
    get = polite(lambda: SimpleNamespace(status=200, headers={"RateLimit": '"a";r=2;t=50'}))
    get()
    with pytest.raises(ConnectionError):
        polite(lambda: fail(ConnectionError()))()
    with pytest.raises(ConnectionError):
        polite(lambda: fail(ConnectionError()))()
    assert polite.peek() == 50.0  # both may have reached the server


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (SimpleNamespace(url=SimpleNamespace(host="a", port=8)), ("a", 8)),
        (SimpleNamespace(url="http://user@A:8/x"), "a:8"),
        (SimpleNamespace(url=7), None),
        ("text", None),
    ],
)
def test_the_key_is_host_and_port(clock, request_, key):
    polite = ratelimit.ServerLimits(max_wait=0.0, clock=clock)
    answer = SimpleNamespace(status=200, headers={"RateLimit": '"a";r=0;t=50'})
    polite(lambda request: answer)(request_)
    assert polite.peek(key) == 50.0
    assert polite.peek("another") == 0.0


def test_fields_sent_apart_are_one(clock):
    from multidict import CIMultiDict

    headers = CIMultiDict([("ratelimit", '"a";r=5;t=9'), ("RateLimit", '"b";r=0;t=50')])
    polite = ratelimit.ServerLimits(max_wait=0.0, clock=clock)
    polite(lambda: SimpleNamespace(status=200, headers=headers))()
    assert polite.peek() == 50.0
    polite(lambda: SimpleNamespace(status=200, headers=7))


def test_what_is_no_response_limits_nothing(clock):
    polite = ratelimit.ServerLimits(max_wait=0.0, clock=clock)
    for outcome in (None, 7, SimpleNamespace(headers=7), SimpleNamespace(headers={"a": 7})):
        polite(lambda outcome=outcome: outcome)()
    assert polite.peek() == 0.0


def test_the_deadline_of_the_context_is_kept(clock):
    polite = ratelimit.ServerLimits()
    polite(lambda: SimpleNamespace(status=200, headers={"RateLimit": '"a";r=0;t=600'}))()
    with context.timeout(5.0), pytest.raises((RateLimited, DeadlineExceeded)):
        polite(lambda: None)()


def test_in_the_shadow(clock):
    server = Server(clock, quota=1)
    shadow = ratelimit.Shadow(ratelimit.ServerLimits(max_wait=0.0, clock=clock))
    get = shadow(server.get)
    get()
    get()
    assert shadow.refusals == 1
    assert server.refused == 1


def test_a_forked_child_does_not_wait_for_the_parents_answers():
    polite = ratelimit.ServerLimits(max_wait=0.0)
    polite(lambda: SimpleNamespace(status=200, headers={"RateLimit": '"a";r=1;t=600'}))()
    permit = polite._enter()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if polite.peek() == 0.0 else 2
            polite._exit(permit, None)  # the parent's: changes nothing here
            code = code or (0 if polite.peek() == 0.0 else 3)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    polite._exit(permit, None)
    assert polite.peek() > 500.0


def test_bad_arguments():
    for wrong in ({"key": 7}, {"max_wait": -1.0}, {"max_keys": 0}, {"max_waiting": -1}):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            ratelimit.ServerLimits(**wrong)
    assert repr(ratelimit.ServerLimits(name="api")) == "<ServerLimits 'api'>"

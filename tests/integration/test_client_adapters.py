"""The adapters of HTTP clients against a real server: one set of tests for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time

import pytest
from tests.support.answering_server import CUT, answering, response, unused_port

from hastack import context, events, ratelimit
from hastack.errors import (
    Cancelled,
    CircuitOpen,
    ConcurrencyLimited,
    DeadlineExceeded,
    InvalidArgument,
    RateLimited,
)

httpx = pytest.importorskip("httpx")
aiohttp = pytest.importorskip("aiohttp")
requests = pytest.importorskip("requests")

from hastack.contrib import aiohttp as our_aiohttp  # noqa: E402
from hastack.contrib import httpx as our_httpx  # noqa: E402
from hastack.contrib import requests as our_requests  # noqa: E402


class Httpx:
    errors = (httpx.HTTPError,)

    def __init__(self, **rules):
        self.client = httpx.Client(
            transport=our_httpx.GuardedTransport(httpx.HTTPTransport(verify=False), **rules),
            timeout=20.0,
        )

    def ask(self, method, url, body=None, headers=None):
        got = self.client.request(method, url, content=body, headers=headers)
        return got.status_code, got.content

    def close(self):
        self.client.close()


class Requests:
    errors = (requests.RequestException,)

    def __init__(self, **rules):
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", our_requests.GuardedAdapter(**rules))

    def ask(self, method, url, body=None, headers=None):
        got = self.session.request(method, url, data=body, headers=headers, timeout=20.0)
        return got.status_code, got.content

    def close(self):
        self.session.close()


class OnLoop:
    """An asynchronous client for tests that know nothing of loops."""

    def __init__(self, **rules):
        self.runner = asyncio.Runner()
        try:
            self.client = self.runner.run(self.make(rules))
        except BaseException:
            self.runner.close()
            raise

    def ask(self, method, url, body=None, headers=None):
        here = contextvars.copy_context()  # the runner has one of its own
        return self.runner.run(self.bounded(method, url, body, headers), context=here)

    async def bounded(self, method, url, body, headers):
        left = context.current().remaining()
        if left is None:
            return await self.send(method, url, body, headers)
        async with context.timeout(left):
            return await self.send(method, url, body, headers)

    def close(self):
        self.runner.run(self.end())
        self.runner.close()


class AsyncHttpx(OnLoop):
    errors = (httpx.HTTPError,)

    async def make(self, rules):
        transport = our_httpx.AsyncGuardedTransport(httpx.AsyncHTTPTransport(verify=False), **rules)
        return httpx.AsyncClient(transport=transport, timeout=20.0)

    async def send(self, method, url, body, headers):
        if body is not None and not isinstance(body, bytes):
            body = _later(body)
        got = await self.client.request(method, url, content=body, headers=headers)
        return got.status_code, got.content

    async def end(self):
        await self.client.aclose()


class Aiohttp(OnLoop):
    errors = (aiohttp.ClientError,)

    async def make(self, rules):
        return aiohttp.ClientSession(middlewares=[our_aiohttp.guarded(**rules)])

    async def send(self, method, url, body, headers):
        if body is not None and not isinstance(body, bytes):
            body = _later(body)
        async with self.client.request(method, url, data=body, headers=headers) as got:
            return got.status, await got.read()

    async def end(self):
        await self.client.close()


async def _later(parts):
    for part in parts:
        yield part


@pytest.fixture(params=[Httpx, AsyncHttpx, Requests, Aiohttp], ids=lambda kind: kind.__name__)
def client(request):
    """Make a client with these rules; it is closed with the test."""
    made = []

    def make(**rules):
        found = request.param(**rules)
        made.append(found)
        return found

    make.errors = request.param.errors
    yield make
    for each in made:
        each.close()


def soon(**options):
    """A retry that hardly waits."""
    return ratelimit.Retry(base=0.001, cap=0.01, **options)


def test_a_good_answer_passes(client):
    with answering([response(200, b"hello")]) as server:
        assert client().ask("GET", server.url) == (200, b"hello")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_get_is_repeated(client, status):
    with answering([response(status), response(status), response(200, b"yes")]) as server:
        assert client(retry=soon(attempts=3)).ask("GET", server.url) == (200, b"yes")
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("method", "body", "headers", "status", "times"),
    [
        ("GET", None, None, 500, 1),
        ("GET", None, None, 404, 1),
        ("POST", b"x", None, 503, 1),
        ("PATCH", b"x", None, 503, 1),
        ("PUT", b"x", None, 503, 2),
        ("DELETE", None, None, 503, 2),
        ("POST", b"x", {"Idempotency-Key": "7"}, 503, 2),
        ("PUT", iter([b"a", b"b"]), None, 503, 1),  # read once, and gone
    ],
)
def test_only_what_is_safe_is_repeated(client, method, body, headers, status, times):
    if body is not None and not isinstance(body, bytes):
        body = iter([b"a", b"b"])
    with answering(lambda request: response(status, b"no")) as server:
        got = client(retry=soon(attempts=2)).ask(method, server.url, body, headers)
        assert got == (status, b"no")
        assert len(server.requests) == times
        if isinstance(body, bytes):
            assert [each.body for each in server.requests] == [body] * times


def test_the_last_answer_is_the_answer(client):
    with answering(lambda request: response(503, b"busy")) as server:
        assert client(retry=soon(attempts=3)).ask("GET", server.url) == (503, b"busy")
        assert len(server.requests) == 3


def test_retry_after_is_waited_for(client):
    with answering([response(503, Retry_After="1"), response(200)]) as server:
        begun = time.monotonic()
        assert client(retry=soon()).ask("GET", server.url)[0] == 200
        assert time.monotonic() - begun >= 1.0


def test_a_wait_too_long_is_not_begun(client):
    with answering(lambda request: response(503, Retry_After="3600")) as server:
        assert client(retry=soon()).ask("GET", server.url)[0] == 503
        assert len(server.requests) == 1


def test_a_flood_of_503_costs_what_the_budget_allows(client):
    budget = ratelimit.RetryBudget(0.2, min_per_second=0.0)
    with answering(lambda request: response(503)) as server:
        mine = client(retry=soon(attempts=4, budget=budget))
        for _ in range(30):
            assert mine.ask("GET", server.url)[0] == 503
        assert 30 < len(server.requests) <= 36


def test_nobody_there_is_repeated_for_any_method(client):
    held, port = unused_port()
    with held, events.record(ratelimit.RetryScheduled) as seen:
        with pytest.raises(client.errors):
            client(retry=soon(attempts=3)).ask("POST", f"http://127.0.0.1:{port}/", b"x")
    assert len(seen) == 2


def test_an_answer_that_breaks_off(client):
    with answering([CUT, response(200, b"second")]) as server:
        mine = client(retry=soon())
        if client.errors == Requests.errors:  # reads the body itself, and so repeats it
            assert mine.ask("GET", server.url) == (200, b"second")
        else:
            with pytest.raises(client.errors):
                mine.ask("GET", server.url)


def test_a_breaker_learns_from_answers_and_from_bodies_that_break_off(client):
    breaker = ratelimit.CircuitBreaker(min_calls=3, failure_rate=1.0, open_for=60.0)
    with answering([response(500), response(404), CUT, response(500)]) as server:
        mine = client(guard=breaker)
        assert mine.ask("GET", server.url)[0] == 500
        assert mine.ask("GET", server.url)[0] == 404
        assert breaker.snapshot().failures == 1
        with pytest.raises(client.errors):
            mine.ask("GET", server.url)
        assert breaker.snapshot().failures == 2
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        mine.ask("GET", server.url)


def test_a_refusal_of_a_guard_is_waited_for_when_asked(client):
    bucket = ratelimit.TokenBucket("20/s", burst=1)
    with answering(lambda request: response(200)) as server:
        plain = client(guard=bucket)
        assert plain.ask("POST", server.url, b"x")[0] == 200
        with pytest.raises(RateLimited):
            for _ in range(50):
                plain.ask("POST", server.url, b"x")
        patient = client(guard=bucket, retry=soon(attempts=20))
        for _ in range(3):
            assert patient.ask("POST", server.url, b"x")[0] == 200


def test_keys_see_the_request(client):
    seen = []
    bucket = ratelimit.TokenBucket("9/s", key=lambda request: seen.append(request.method))
    with answering(lambda request: response(200)) as server:
        client(guard=bucket).ask("PUT", server.url, b"x")
    assert seen == ["PUT"]


def test_a_client_that_obeys_is_never_refused(client):
    lock, state = threading.Lock(), {"number": -1, "used": 0, "refused": 0}

    def answer(request):
        with lock:
            now = time.monotonic()
            if int(now) != state["number"]:
                state.update(number=int(now), used=0)
            state["used"] += 1
            if state["used"] > 5:
                state["refused"] += 1
                return response(429, Retry_After="1")
            return response(
                200, RateLimit=f'"a";r={5 - state["used"]};t=1', RateLimit_Policy='"a";q=5;w=1'
            )

    with answering(answer) as server:
        mine = client(guard=ratelimit.ServerLimits())
        assert [mine.ask("GET", server.url)[0] for _ in range(12)] == [200] * 12
    assert state["refused"] == 0


def test_the_older_fields_are_obeyed_too(client):
    with answering(
        lambda r: response(200, X_RateLimit_Remaining="0", X_RateLimit_Reset="60")
    ) as server:
        mine = client(guard=ratelimit.ServerLimits(max_wait=0.0))
        mine.ask("GET", server.url)
        with pytest.raises(RateLimited) as info:
            mine.ask("GET", server.url)
        assert 50.0 < info.value.retry_after <= 60.0
        assert len(server.requests) == 1


def test_the_deadline_goes_along_and_ends_the_call(client):
    with answering(lambda request: None if request.path == "/slow" else response(200)) as server:
        mine = client()
        with context.timeout(15.0):
            assert mine.ask("GET", server.url)[0] == 200
        assert 0 < int(server.requests[0].headers["x-request-timeout-ms"]) <= 15_000
        with context.timeout(0.3), pytest.raises(DeadlineExceeded):
            mine.ask("GET", server.url + "/slow")


def test_a_context_that_has_ended_sends_nothing(client):
    with answering(lambda request: response(200)) as server:
        mine = client()
        ended = context.with_cancel()
        ended.cancel("enough")
        with context.using(ended), pytest.raises(Cancelled):
            mine.ask("GET", server.url)
        assert server.requests == []


def test_a_timeout_as_guard(client):
    with answering(lambda request: None) as server:
        with pytest.raises(DeadlineExceeded):
            client(guard=ratelimit.Timeout(0.2)).ask("GET", server.url)


def test_a_guard_in_the_shadow(client):
    with answering(lambda request: response(200)) as server:
        shadow = ratelimit.Shadow(ratelimit.TokenBucket("1/h", burst=1))
        mine = client(guard=shadow)
        for _ in range(3):
            assert mine.ask("GET", server.url)[0] == 200
        assert shadow.refusals == 2


def test_places_are_given_back_whatever_happens(client):
    limit = ratelimit.ConcurrencyLimit(1)
    answers = [response(200), response(503), CUT, response(500), response(200, b"end")]
    with answering(answers) as server:
        mine = client(guard=limit, retry=soon(attempts=1))
        for _ in answers:
            try:
                mine.ask("GET", server.url)
            except client.errors:
                pass
            assert limit.in_flight() == 0


def test_bad_rules(client):
    retry = ratelimit.Retry()
    for wrong in (
        {"guard": 7},
        {"guard": retry},
        {"guard": ratelimit.compose(ratelimit.Hedge(1.0))},
        {"retry": 7},
        {"retry": ratelimit.Retry(retry_result=bool)},
    ):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            client(**wrong)


def test_a_stream_holds_its_place_until_it_is_closed():
    limit = ratelimit.ConcurrencyLimit(1)
    with answering(lambda request: response(200, b"x" * 100)) as server:
        mine = Httpx(guard=limit)
        with mine.client.stream("GET", server.url):
            assert limit.in_flight() == 1
            with pytest.raises(ConcurrencyLimited):
                mine.ask("GET", server.url)
        assert limit.in_flight() == 0
        mine.close()


@pytest.mark.parametrize("end", ["read", "close", "cut"])
def test_a_stream_of_requests_holds_its_place(end):
    limit = ratelimit.ConcurrencyLimit(1)
    breaker = ratelimit.CircuitBreaker(min_calls=1, failure_rate=1.0)
    guard = ratelimit.compose(breaker, limit)
    with answering(lambda r: CUT if end == "cut" else response(200, b"x" * 99_999)) as server:
        mine = Requests(guard=guard)
        got = mine.session.get(server.url, stream=True, timeout=20.0)
        assert limit.in_flight() == 1
        if end == "close":
            got.close()
        elif end == "read":
            assert len(got.content) == 99_999
        else:
            with pytest.raises(requests.RequestException):
                got.content  # noqa: B018
        assert limit.in_flight() == 0
        assert breaker.state.value == ("open" if end == "cut" else "closed")
        mine.close()


@pytest.mark.parametrize("kind", [AsyncHttpx, Aiohttp], ids=lambda kind: kind.__name__)
def test_cancelled_at_every_await(kind):
    """Whenever it is cancelled, nothing stays taken and the next call works."""
    limit = ratelimit.ConcurrencyLimit(1, max_wait=10.0)
    polite = ratelimit.ServerLimits()

    async def main(server):
        client = kind.__new__(kind)
        rules = {"guard": ratelimit.compose(polite, limit), "retry": soon(attempts=3)}
        client.client = await client.make(rules)
        try:
            for steps in range(60):
                task = asyncio.ensure_future(client.send("GET", server.url, None, None))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for _ in range(3):  # aiohttp tells of a connection's end with the next turn
                    await asyncio.sleep(0)
                assert limit.in_flight() == 0
                assert all(not each.under_way for each in polite._book.accounts.values())
            async with asyncio.timeout(20.0):
                assert (await client.send("GET", server.url, None, None))[0] == 200
        finally:
            await client.end()

    flaky = [0]

    def answer(request):
        flaky[0] += 1
        return response(503 if flaky[0] % 2 else 200)

    with answering(answer) as server:
        asyncio.run(main(server))


def test_a_forked_child_has_its_own_counts():
    limit = ratelimit.ConcurrencyLimit(1)
    with answering(lambda request: response(200)) as server:
        mine = Httpx(guard=limit)
        with mine.client.stream("GET", server.url):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    own = httpx.Client(
                        transport=our_httpx.GuardedTransport(
                            httpx.HTTPTransport(verify=False), guard=limit
                        )
                    )
                    code = 0 if own.get(server.url).status_code == 200 else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert limit.in_flight() == 1
        mine.close()

"""Rules: whom they are for, whose permits they take, what a refusal leaves behind."""

from __future__ import annotations

import json

import pytest
from structured_fields import read_list

from hastack import context, events, ratelimit
from hastack.contrib._http_limits import Limits, decide, decide_async
from hastack.contrib._http_request import HttpRequest
from hastack.contrib.http_limits import (
    BodyCost,
    Rule,
    ServerFailed,
    TrustedProxies,
    by_all,
    by_client,
    by_header,
    by_method,
    by_route,
    header_cost,
)
from hastack.errors import CircuitOpen, ConcurrencyLimited, InvalidArgument, RateLimited
from hastack.testing import ManualClock


class Request(HttpRequest):
    __slots__ = ("headers", "template")

    def __init__(
        self, path="/", *, method="GET", peer="203.0.113.9", template="", proxies=None, **h
    ):
        super().__init__(method, path, peer, None, proxies)
        self.headers = {name.replace("_", "-"): value for name, value in h.items()}
        self.template = template

    def header(self, name):
        return self.headers.get(name)

    def _template(self):
        return self.template


def bucket(rate="2/min", **options):
    return ratelimit.TokenBucket(rate, clock=ManualClock(), **{"name": "api", **options})


def allowed(limits, request=None):
    return decide(limits, request or Request()).problem is None


class TestWhomARuleIsFor:
    @pytest.mark.parametrize(
        ("options", "request_", "applies"),
        [
            ({}, Request("/x"), True),
            ({"methods": ["post"]}, Request(method="POST"), True),
            ({"methods": ["post"]}, Request(method="GET"), False),
            ({"methods": ("GET",)}, Request(method="HEAD"), True),
            ({"methods": ("HEAD",)}, Request(method="GET"), False),
            ({"path": "/orders/{id}"}, Request("/orders/7"), True),
            ({"path": "/orders/{id}"}, Request("/orders/7/lines"), False),
            ({"path": "/orders/{id}"}, Request("/orders/"), False),
            ({"path": "/files/{rest:path}"}, Request("/files/a/b\n"), True),
            ({"path": "/static/*"}, Request("/static/"), True),
            ({"path": "/static/*"}, Request("/static"), False),
            ({"path": "/a.b"}, Request("/aXb"), False),
            ({"when": lambda r: r.header("x-bot")}, Request(x_bot="1"), True),
            ({"when": lambda r: r.header("x-bot")}, Request(), False),
        ],
    )
    def test_methods_paths_and_conditions(self, options, request_, applies):
        assert Rule(bucket(), **options).applies(request_) is applies

    @pytest.mark.parametrize(
        "options",
        [
            {"methods": "POST"},
            {"methods": []},
            {"methods": [1]},
            {"path": "orders"},
            {"path": 3},
            {"path": "/a*b"},
            {"path": "/{1}"},
            {"path": "/{a}/*/x"},
            {"path": "/{id}}"},
            {"name": ""},
            {"key": "user"},
            {"when": True},
            {"partition": b"eu"},
            {"cost": 0},
            {"cost": "many"},
        ],
    )
    def test_what_a_rule_cannot_be(self, options):
        with pytest.raises(InvalidArgument):
            Rule(bucket(), **options)

    @pytest.mark.parametrize(
        "guard",
        [
            None,
            ratelimit.Timeout(1.0),
            ratelimit.Retry(),
            ratelimit.compose(ratelimit.TokenBucket(1)),
            ratelimit.AllOf(ratelimit.TokenBucket(1, key=by_client())),
            ratelimit.AllOf(ratelimit.TokenBucket(2, cost=2)),
        ],
    )
    def test_guards_that_cannot_stand_in_a_rule(self, guard):
        with pytest.raises(InvalidArgument):
            Rule(guard)

    def test_guards_without_keys_take_none(self):
        with pytest.raises(InvalidArgument, match="key="):
            Rule(ratelimit.CircuitBreaker(), key=by_client())
        with pytest.raises(InvalidArgument, match="cost="):
            Rule(ratelimit.CircuitBreaker(), cost=2)

    def test_limits_need_rules(self):
        with pytest.raises(InvalidArgument, match="rules="):
            Limits([bucket()])
        with pytest.raises(InvalidArgument, match="proxies="):
            Limits([], proxies=["10.0.0.0/8"])

    def test_how_a_rule_looks(self):
        assert repr(Rule(bucket(), path="/a", name="r")) == "<Rule 'r' for /a: <TokenBucket 'api'>>"
        assert repr(Rule(bucket())) == "<Rule 'api': <TokenBucket 'api'>>"


class TestKeys:
    def test_a_client_has_its_address_or_its_network(self):
        key = by_client()
        assert key(Request(peer="203.0.113.9")) == "203.0.113.9"
        assert key(Request(peer="2001:db8::1")) == key(Request(peer="2001:db8::2"))
        assert key(Request(peer="2001:db8:0:1::")) == "2001:db8:0:1::/64"
        assert key(Request(peer=None)) is None
        assert (
            by_client(v4_prefix=24, v6_prefix=48)(Request(peer="203.0.113.9")) == "203.0.113.0/24"
        )
        for wrong in ({"v4_prefix": 33}, {"v6_prefix": 0}, {"v6_prefix": 129}):
            with pytest.raises(InvalidArgument):
                by_client(**wrong)

    def test_proxies_say_who_the_client_is(self):
        request = Request(
            peer="10.0.0.1",
            proxies=TrustedProxies("10.0.0.0/8"),
            x_forwarded_for="6.6.6.6, 1.2.3.4",
        )
        assert request.client == "1.2.3.4"
        assert request.client == "1.2.3.4"

    def test_a_header_or_what_stands_in_for_it(self):
        assert by_header("X-Api-Key")(Request(x_api_key="k")) == "k"
        assert by_header("x-api-key")(Request()) is None
        fallback = by_header("x-api-key", otherwise=by_client())
        assert fallback(Request(x_api_key="203.0.113.9")) != fallback(Request())
        long, other = "a" * 5000, "a" * 4999 + "b"
        assert len(by_header("x-k")(Request(x_k=long))) == 64
        assert by_header("x-k")(Request(x_k=long)) != by_header("x-k")(Request(x_k=other))
        with pytest.raises(InvalidArgument):
            by_header("x", otherwise=3)

    def test_a_route_is_the_template_and_never_the_path(self):
        assert by_route()(Request("/orders/7", template="/orders/{id}")) == "/orders/{id}"
        assert by_route()(Request("/orders/7")) == ""
        rule = Rule(bucket(), key=by_route(), path="/orders/{id}")
        assert rule.asks(Request("/orders/7")) == ("/orders/{id}", 1.0)
        assert HttpRequest("GET", "/", None, None)._template() == ""
        with pytest.raises(NotImplementedError):
            HttpRequest("GET", "/", None, None).header("a")

    def test_methods_are_those_of_http(self):
        assert by_method()(Request(method="PUT")) == "PUT"
        assert by_method()(Request(method="X" * 1000)) is None

    def test_combinations(self):
        key = by_all(by_client(), by_route(), by_method())
        assert key(Request(template="/a")) == ("203.0.113.9", "/a", "GET")
        with pytest.raises(InvalidArgument):
            by_all(by_client())

    def test_the_limiters_own_key_and_cost_see_the_request(self):
        own = bucket(key=by_client(), cost=BodyCost(per=10))
        assert Rule(own).asks(Request(content_length="20")) == ("203.0.113.9", 2)
        assert Rule(own, key=by_route(), cost=1).asks(Request(template="/a")) == ("/a", 1.0)
        assert Rule(bucket(cost=2)).asks(Request()) == (None, 2.0)
        both = ratelimit.AllOf(ratelimit.TokenBucket(5), ratelimit.ConcurrencyLimit(5))
        assert Rule(both, key=by_client(), cost=2).asks(Request()) == ("203.0.113.9", 2.0)


class TestCosts:
    def test_a_body_costs_what_it_declares(self):
        cost = BodyCost(per=1000, least=0.5, unknown=7)
        assert cost(Request()) == 0.5
        assert cost(Request(content_length="0")) == 0.5
        assert cost(Request(content_length="1000")) == 1
        assert cost(Request(content_length="1001")) == 2
        assert cost(Request(transfer_encoding="chunked")) == 7
        for hostile in ("-5", "1e9", "٣", "9" * 5000, ""):
            assert cost(Request(content_length=hostile)) == 7

    def test_a_header_says_the_cost(self):
        cost = header_cost("X-Cost", otherwise=3)
        assert cost(Request(x_cost="2.5")) == 2.5
        for other in ("", "0", "-1", "inf", "nan", "much", "1" * 400):
            assert cost(Request(x_cost=other)) == 3

    def test_a_cost_beyond_the_limit_is_no_error(self):
        limits = Limits([Rule(bucket("10/min"), cost=BodyCost(per=1))])
        assert allowed(limits, Request(content_length="999999"))
        assert not allowed(limits, Request(content_length="1"))

    def test_headers_speak_of_bytes(self):
        rule = Rule(bucket("100/min"), cost=BodyCost(per=1024))
        got = dict(decide(Limits([rule]), Request(content_length="2048")).fields)
        assert read_list(got["ratelimit-policy"])["api"]["q"] == 102_400
        assert read_list(got["ratelimit"])["api"]["r"] == 98 * 1024


class TestAsking:
    def test_each_key_has_its_limit(self):
        limits = Limits([Rule(bucket(), key=by_client())])
        assert [allowed(limits, Request(peer="1.1.1.1")) for _ in range(3)] == [True, True, False]
        assert allowed(limits, Request(peer="1.1.1.2"))

    def test_no_rule_for_a_request_says_nothing(self):
        verdict = decide(Limits([Rule(bucket(), path="/x")]), Request("/y"))
        assert (verdict.problem, verdict.fields, verdict.holds) == (None, (), False)

    def test_a_refusal_tells_what_and_when(self):
        limits = Limits([Rule(bucket(), name="logins")])
        fields = dict(decide(limits, Request()).fields)
        assert read_list(fields["ratelimit-policy"]) == {"logins": {"q": 2, "w": 60}}
        assert read_list(fields["ratelimit"]) == {"logins": {"r": 1, "t": 30}}
        # Nothing left: until the next permit, not until all of them are back.
        assert read_list(dict(decide(limits, Request()).fields)["ratelimit"])["logins"]["t"] == 30
        verdict = decide(limits, Request())
        assert isinstance(verdict.error, RateLimited)
        assert verdict.problem.status == 429
        assert dict(verdict.problem.headers)["retry-after"] == "30"
        assert read_list(dict(verdict.fields)["ratelimit"]) == {"logins": {"r": 0, "t": 30}}
        body = json.loads(verdict.problem.body)
        assert body["violated-policies"] == ["logins"]
        assert body["type"].endswith("#quota-exceeded")

    def test_what_one_rule_refuses_the_others_have_back(self):
        clock = ManualClock()
        first = ratelimit.SlidingWindowLog(5, clock=clock, name="first")
        held = ratelimit.ConcurrencyLimit(3, clock=clock, name="held")
        last = ratelimit.TokenBucket("1/min", clock=clock, name="last")
        breaker = ratelimit.CircuitBreaker(clock=clock)
        limits = Limits([Rule(first), Rule(held), Rule(breaker), Rule(last)])
        decide(limits, Request()).finish()
        for _ in range(10):
            verdict = decide(limits, Request())
            assert verdict.error.name == "last"
            assert not verdict.holds
        assert first.peek().remaining == 4
        assert held.in_flight() == 0
        assert breaker.snapshot().calls == 1

    def test_a_key_that_fails_leaves_nothing_taken(self):
        def broken(request):
            raise LookupError

        first = bucket()
        with pytest.raises(LookupError):
            decide(Limits([Rule(first), Rule(bucket(), key=broken)]), Request())
        assert first.peek().remaining == 2

    def test_permits_are_held_until_the_end_and_given_back_once(self):
        limit = ratelimit.ConcurrencyLimit(1, name="held")
        limits = Limits([Rule(limit, key=by_client())])
        verdict = decide(limits, Request())
        assert limit.in_flight("203.0.113.9") == 1
        refused = decide(limits, Request())
        assert isinstance(refused.error, ConcurrencyLimited)
        assert "retry-after" not in dict(refused.problem.headers)
        assert read_list(dict(refused.fields)["ratelimit"]) == {"held": {"r": 0}}
        verdict.finish()
        verdict.finish()
        assert limit.in_flight("203.0.113.9") == 0

    def test_several_limits_as_one(self):
        clock = ManualClock()
        rate = ratelimit.TokenBucket("2/min", clock=clock, name="rate")
        calls = ratelimit.ConcurrencyLimit(5, clock=clock, name="calls")
        limits = Limits([Rule(ratelimit.AllOf(rate, calls, name="both"), key=by_client())])
        first = decide(limits, Request())
        decide(limits, Request()).finish()
        assert calls.in_flight("203.0.113.9") == 1
        verdict = decide(limits, Request())
        assert verdict.error.name == "both"
        assert dict(verdict.problem.headers)["retry-after"] == "30"
        got = dict(verdict.fields)
        assert list(read_list(got["ratelimit-policy"])) == ["rate", "calls"]
        assert list(read_list(got["ratelimit"])) == ["rate"]
        first.finish()
        assert calls.in_flight("203.0.113.9") == 0

    def test_several_limits_give_back_what_another_rule_refused(self):
        clock = ManualClock()
        rate = ratelimit.TokenBucket("9/min", clock=clock)
        calls = ratelimit.ConcurrencyLimit(5, clock=clock)
        none = ratelimit.TokenBucket("1/min", clock=clock)
        limits = Limits([Rule(ratelimit.AllOf(rate, calls)), Rule(none)])
        decide(limits, Request()).finish()
        assert not allowed(limits)
        assert rate.peek().remaining == 8
        assert calls.in_flight() == 0

    def test_a_breaker_learns_from_the_answers(self):
        clock = ManualClock()
        breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=2, clock=clock, name="db")
        limits = Limits([Rule(breaker)])
        for _ in range(2):
            decide(limits, Request()).finish(status=503)
        verdict = decide(limits, Request())
        assert isinstance(verdict.error, CircuitOpen)
        assert verdict.problem.status == 503
        assert "retry-after" in dict(verdict.problem.headers)
        assert verdict.fields == ()
        assert issubclass(ServerFailed, Exception)

    def test_no_headers_when_none_are_wanted(self):
        limits = Limits([Rule(bucket("1/min"))], headers=None)
        assert decide(limits, Request()).fields == ()
        assert decide(limits, Request()).fields == ()

    def test_a_changed_limit_keeps_what_was_counted_and_shows(self):
        limiter = bucket("10/min")
        limits = Limits([Rule(limiter)])
        for _ in range(5):
            decide(limits, Request())
        limiter.update(rate="20/min", burst=20)
        got = dict(decide(limits, Request()).fields)
        assert read_list(got["ratelimit-policy"])["api"]["q"] == 20
        assert read_list(got["ratelimit"])["api"]["r"] == 9  # half of the new bucket, less one

    def test_partitions_are_what_the_rule_tells(self):
        rule = Rule(bucket(), key=by_client(), partition=lambda r: b"eu")
        got = dict(decide(Limits([rule]), Request()).fields)
        assert read_list(got["ratelimit"])["api"]["pk"] == b"eu"


class TestWaiting:
    def test_threads_and_tasks_wait_as_the_limiter_says(self):
        limits = Limits([Rule(ratelimit.TokenBucket("50/s", burst=1, max_wait=5.0, name="w"))])
        assert [allowed(limits) for _ in range(3)] == [True] * 3

        async def main():
            return [await decide_async(limits, Request()) for _ in range(3)]

        import asyncio

        assert [each.problem for each in asyncio.run(main())] == [None] * 3

    def test_what_comes_too_late_is_refused_at_once(self):
        import asyncio

        limiter = ratelimit.TokenBucket("1/min", max_wait=5.0, name="slow")
        limits = Limits([Rule(limiter)])
        assert allowed(limits)
        for verdict in (
            decide(limits, Request()),
            asyncio.run(decide_async(limits, Request())),
        ):
            assert verdict.problem.status == 429
            assert int(dict(verdict.problem.headers)["retry-after"]) > 50
            assert read_list(dict(verdict.fields)["ratelimit"])["slow"]["r"] == 0

    def test_the_contexts_deadline_ends_the_wait(self):
        first = ratelimit.TokenBucket("9/min", name="first")
        slow = ratelimit.ConcurrencyLimit(1, max_wait=None, name="slow")
        limits = Limits([Rule(first), Rule(slow)])
        assert allowed(limits)
        with context.timeout(0.05):
            verdict = decide(limits, Request())
        assert verdict.problem.status in {429, 504}
        assert first.peek().remaining == 8

    def test_an_adaptive_limit_may_wait_too(self):
        import asyncio

        limit = ratelimit.AdaptiveLimit(initial=1, min_limit=1, max_limit=1, max_wait=0.05)
        limits = Limits([Rule(limit)])
        verdict = decide(limits, Request())
        assert verdict.holds
        assert decide(limits, Request()).problem.status == 429
        assert asyncio.run(decide_async(limits, Request())).problem.status == 429
        verdict.finish()
        assert allowed(limits)


class TestShadows:
    def test_a_shadow_decides_records_and_lets_pass(self):
        limiter = bucket()
        limits = Limits([Rule(limiter, key=by_client(), shadow=True)])
        with events.record(ratelimit.ShadowRejected) as seen:
            assert all(allowed(limits) for _ in range(5))
        assert [(each.name, each.key) for each in seen] == [("api", "203.0.113.9")] * 3
        assert decide(limits, Request()).fields == ()

    def test_a_shadow_put_in_force_refuses(self):
        shadow = ratelimit.Shadow(bucket())
        limits = Limits([Rule(shadow, shadow=True)])
        assert all(allowed(limits) for _ in range(3))
        shadow.switch(active=False)
        assert not allowed(limits)
        shadow.switch(active=True)
        assert allowed(limits)

    def test_shadows_hold_and_learn_like_others(self):
        held = ratelimit.ConcurrencyLimit(1, name="held")
        breaker = ratelimit.CircuitBreaker(failure_rate=0.5, min_calls=2, name="db")
        limits = Limits([Rule(held, shadow=True), Rule(breaker, shadow=True)])
        with events.record(ratelimit.ShadowRejected) as seen:
            first, second = decide(limits, Request()), decide(limits, Request())
        assert [each.name for each in seen] == ["held"]
        first.finish(status=500)
        second.finish(status=500)
        assert held.in_flight() == 0
        assert breaker.state is ratelimit.BreakerState.OPEN
        assert allowed(limits)

    def test_a_shadow_that_fails_refuses_nobody(self):
        def broken(request):
            raise LookupError

        limits = Limits([Rule(bucket(), key=broken, shadow=True)])
        with events.record(ratelimit.ShadowRejected) as seen:
            assert allowed(limits)
        assert [each.reason for each in seen] == ["error"]

    def test_what_others_refuse_never_reaches_a_shadow(self):
        shadowed = bucket("100/min")
        limits = Limits([Rule(shadowed, shadow=True), Rule(bucket("1/min"))])
        assert [allowed(limits) for _ in range(5)].count(True) == 1
        assert shadowed.peek().remaining == 99

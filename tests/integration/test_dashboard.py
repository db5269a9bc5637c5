"""The dashboard under a real server, in a real browser."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import socket
import threading
import time
import weakref

import pytest
from asgi_servers import TOKEN, served

from hastack import events, health, ratelimit
from hastack.config import Secret
from hastack.contrib.dashboard import Dashboard, DashboardAction
from hastack.errors import InvalidArgument
from hastack.ratelimit import AdaptiveLimit, CircuitBreaker, ConcurrencyLimit, TokenBucket

pytest.importorskip("uvicorn")


def ask(port, path="/snapshot.json", *, method="GET", body=None, **headers):
    fields = {"host": f"127.0.0.1:{port}"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request(method, path, body, fields)
        answer = client.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def act(port, token=TOKEN, body=None, **headers):
    fields = {"content_type": "application/json", "authorization": f"Bearer {token}"} | headers
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(port, "/actions", method="POST", body=sent, **fields)


def until(condition):
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_counts_are_kept_only_while_a_dashboard_is_open():
    bucket = TokenBucket("2/s", name="kept bucket")
    places = ConcurrencyLimit(2, name="kept places")
    adaptive = AdaptiveLimit(name="kept adaptive", initial=2)
    both = ratelimit.AllOf(bucket, places, name="kept both")

    @ratelimit.compose(bucket)
    def guarded():
        return 1

    cores = [each._core for each in (bucket, places, adaptive, both)]
    rejected = ratelimit._limit_events.REJECTED
    before = len(rejected.subscribers)
    with Dashboard(bucket, places, adaptive, both, period=60.0) as dashboard:
        dashboard.snapshot()
        assert len(rejected.subscribers) == before + 1
        assert guarded() == 1  # decorated before there was a dashboard
        assert bucket.try_acquire()
        assert not bucket.try_acquire()
        with places, adaptive:
            pass
        bucket.reset()
        assert both.try_acquire()
        places.release()
        shot = dashboard.snapshot()
        rows = {row.name: row for row in (*shot.limiters, *shot.adaptive)}
        assert rows["kept bucket"].allowed == 2
        assert rows["kept bucket"].rejected == 1
        assert rows["kept places"].allowed == 1
        assert rows["kept both"].allowed == 1
        assert rows["kept adaptive"].in_flight == 0
        assert rows["kept adaptive"].allowed_rate > 0.0
        with Dashboard(bucket, period=60.0) as second:
            second.snapshot()
            bucket.reset()
            assert bucket.try_acquire()
            assert second.snapshot().limiters[0].allowed == 3  # one tally for both
        assert bucket.try_acquire()
        assert dashboard.snapshot().limiters[1].allowed == 4
    assert [each._core for each in (bucket, places, adaptive, both)] == cores
    assert bucket._room._limiter is cores[0]
    assert len(rejected.subscribers) == before


def test_whoever_waited_counts_too():
    bucket = TokenBucket("50/s", burst=1, name="waited", max_wait=5.0)
    with Dashboard(bucket, period=60.0) as dashboard:
        dashboard.snapshot()
        for _ in range(3):
            with bucket:
                pass
        assert dashboard.snapshot().limiters[0].allowed == 3


def test_many_threads_lose_no_count():
    bucket = TokenBucket(1e9, name="threads")
    with Dashboard(bucket, period=0.01) as dashboard:
        dashboard.snapshot()

        def work():
            for _ in range(2000):
                bucket.try_acquire()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30.0)
        assert dashboard.snapshot().limiters[0].allowed == 16_000


def test_nothing_is_kept_alive_and_a_dropped_dashboard_ends():
    bucket = TokenBucket("1/s", name="!dropped bucket")
    dashboard: Dashboard | None = Dashboard(period=0.01)
    dashboard.snapshot()
    gone = weakref.ref(bucket)
    names = [row.name for row in dashboard.snapshot().limiters]
    assert "!dropped bucket" in names  # found by itself
    kept = TokenBucket("1/s", name="!kept by us")
    found = dashboard._observer
    until(lambda: "!kept by us" in [row.name for row in found.last.limiters])
    del bucket
    until(lambda: (gc.collect(), gone())[1] is None)  # a look may be under way
    assert "!dropped bucket" not in [row.name for row in dashboard.snapshot().limiters]
    thread = dashboard._ticker._thread
    assert found.recorder._stops
    dashboard = None
    gc.collect()
    thread.join(30.0)
    assert not thread.is_alive()
    assert found._closed
    assert not found.recorder._stops
    assert kept


def test_a_breaker_an_object_that_cannot_be_read_and_the_log():
    breaker = CircuitBreaker(name="broken", min_calls=2, window=60.0)
    checks = health.Health("broken health")
    with Dashboard(breaker, checks, period=60.0) as dashboard:
        dashboard.snapshot()
        for _ in range(3):
            permit = breaker.try_acquire()
            if permit:
                permit.failure()
        checks.liveness = None  # whatever goes wrong in there
        shot = dashboard.snapshot()
        assert shot.breakers[0].state == "open"
        assert shot.breakers[0].states in {"co", "cco"}  # the thread looks once as well
        assert shot.breakers[0].rejected == 1
        assert shot.health == []
        assert list(shot.unreadable.values()) == ["TypeError: 'NoneType' object is not callable"]
        assert [(row.level, row.kind, row.name) for row in shot.events] == [
            ("bad", "breaker", "broken")
        ]


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"hosts": "example.org"}, "hosts"),
        ({"hosts": []}, "hosts"),
        ({"hosts": ["*"]}, "hosts"),
        ({"token": "short"}, "token"),
        ({"actions": Secret("short")}, "actions"),
        ({"actions": "ä" * 20}, "actions"),
        ({"period": 0.0}, "period"),
        ({"history": 1}, "history"),
        ({"max_clients": 0}, "max_clients"),
        ({"send_timeout": -1}, "send_timeout"),
        ({"service": ""}, "service"),
    ],
)
def test_a_bad_option_is_named(options, parameter):
    with pytest.raises(InvalidArgument, match=parameter):
        Dashboard(**options)


def test_hosts_methods_and_paths():
    bucket = TokenBucket("1/s")
    with Dashboard(bucket, period=60.0) as app, served(app) as port:
        status, fields, page = ask(port, "/")
        assert status == 200
        policy = fields["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert fields["cache-control"] == "no-store"
        assert page.startswith(b"<!doctype html>")
        assert json.loads(ask(port)[2])["limiters"][0]["kind"] == "TokenBucket"
        for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "", "127.0.0.2"):
            for path in ("/", "/snapshot.json", "/events", "/actions"):
                assert ask(port, path, host=host)[0] == 421
        assert ask(port, host=f"LOCALHOST:{port}")[0] == 200
        assert ask(port, "/nothing")[0] == 404
        assert ask(port, "/", method="POST", body=b"")[0] == 405
        assert ask(port, "/", method="HEAD")[1]["content-length"] == str(len(page))
        assert act(port, body={"action": "open", "target": "breakers-1"})[0] == 404  # not enabled


def test_a_reader_needs_the_token_and_the_page_has_nothing_to_hide():
    asked = []

    def by_name(scope):
        asked.append(scope["path"])
        return "ada" if (b"x-user", b"ada") in scope["headers"] else None

    async def never(scope):
        return False

    with Dashboard(token=Secret(TOKEN), period=60.0) as app, served(app) as port:
        assert ask(port, "/")[0] == 200
        for path in ("/snapshot.json", "/events"):
            assert ask(port, path)[0] == 401
            assert ask(port, path, authorization=f"Bearer {TOKEN}x")[0] == 401
        assert ask(port, authorization=f"Bearer {TOKEN}")[0] == 200
    with Dashboard(token=by_name, period=60.0) as app, served(app) as port:
        assert ask(port)[0] == 401
        assert ask(port, x_user="ada")[0] == 200
        assert asked == ["/snapshot.json"] * 2
    with Dashboard(token=never, period=60.0) as app, served(app) as port:
        assert ask(port)[0] == 401


def test_actions_change_things_and_are_written_down():
    breaker = CircuitBreaker(name="db")
    bucket = TokenBucket("10/s", name="api")
    places = ConcurrencyLimit(4, name="places")
    checks = health.Health("svc")
    app = Dashboard(breaker, bucket, places, checks, actions=TOKEN, period=60.0)
    with app, served(app) as port, events.record(DashboardAction) as seen:
        shot = json.loads(ask(port)[2])
        assert shot["actions"] is True
        ids = {
            row["name"]: row["id"]
            for part in ("breakers", "limiters", "health")
            for row in shot[part]
        }

        def done(name, action, value=None):
            body = {"action": action, "target": ids[name]} | (
                {} if value is None else {"value": value}
            )
            return act(port, body=body)[0]

        assert done("db", "open") == 200
        assert breaker.state is ratelimit.BreakerState.FORCED_OPEN
        assert json.loads(ask(port)[2])["breakers"][0]["state"] == "forced open"
        assert done("db", "close") == 200
        assert breaker.state is ratelimit.BreakerState.CLOSED
        assert done("api", "limit", 25) == 200
        assert bucket.rate == 25.0
        assert done("places", "limit", 2) == 200
        assert places.limit == 2.0
        assert checks.last_readiness()
        assert done("svc", "hold") == done("svc", "hold") == 200
        assert not checks.last_readiness()
        assert done("svc", "release") == 200
        assert checks.last_readiness()
        good = len(seen)
        assert {(e.who, e.client, e.outcome) for e in seen} == {("token", "127.0.0.1", "done")}
        assert [(e.action, e.target, e.value) for e in seen][2] == ("limit", "api", 25)

        assert done("api", "limit", -1) == 400
        assert bucket.rate == 25.0
        assert done("db", "hold") == 400
        assert act(port, body={"action": "open", "target": "breakers-999"})[0] == 404
        assert act(port, body=b"{")[0] == 400
        assert act(port, body={"action": "open", "target": ids["db"], "value": 1})[0] == 400
        assert act(port, body=["open"])[0] == 400
        assert act(port, body={"action": "erase", "target": ids["db"]})[0] == 400
        assert act(port, body=b"x" * 5000)[0] == 413
        assert act(port, token="x" * 20, body={"action": "open", "target": ids["db"]})[0] == 401
        assert {e.outcome for e in seen[good:]} == {"failed", "refused"}
        wanted = {"action": "open", "target": ids["db"]}
        assert act(port, body=wanted, content_type="text/plain")[0] == 403
        assert act(port, body=wanted, origin="http://evil.example")[0] == 403
        assert act(port, body=wanted, sec_fetch_site="cross-site")[0] == 403
        assert ask(port, "/actions")[0] == 405
        assert breaker.state is ratelimit.BreakerState.CLOSED


def stream(port, token=None):
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    extra = f"authorization: Bearer {token}\r\n" if token else ""
    sock.sendall(f"GET /events HTTP/1.1\r\nhost: localhost:{port}\r\n{extra}\r\n".encode())
    return sock


def test_a_stream_brings_each_look_and_clients_are_bounded():
    bucket = TokenBucket("1/s", name="streamed")
    app = Dashboard(bucket, period=0.05, max_clients=2)
    with app, served(app) as port:
        with stream(port) as first:
            text = b""
            while text.count(b"data: ") < 3:
                text += first.recv(65536)
            assert b"text/event-stream" in text
            shots = [
                json.loads(line[6:].split(b"\n\n")[0])
                for line in text.replace(b"\r\n", b"\n").split(b"\n")
                if line.startswith(b"data: ") and line.endswith(b"}")
            ]
            assert [s["looks"] for s in shots] == sorted({s["looks"] for s in shots})
            assert shots[0]["limiters"][0]["name"] == "streamed"
            with stream(port) as second:
                assert b" 200 " in second.recv(1000)
                status, fields, _ = ask(port, "/events")
                assert (status, fields["retry-after"]) == (503, "5")
        until(lambda: app._clients == 0)
        with stream(port) as third:
            assert b" 200 " in third.recv(1000)
            app.drain()
            until(lambda: app._clients == 0)
        assert ask(port, "/events")[0] == 503


def test_a_slow_client_is_dropped():
    buckets = [TokenBucket("1/s", name=f"{n} {'x' * 200}") for n in range(200)]
    app = Dashboard(*buckets, period=0.01, send_timeout=0.3)
    with app, served(app) as port, stream(port):
        until(lambda: app._clients == 1)
        until(lambda: app._clients == 0)  # nobody reads
        assert ask(port)[0] == 200

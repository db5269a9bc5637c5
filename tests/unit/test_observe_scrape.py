"""One request for a page, and what applications mount."""

import asyncio
import gzip
import threading

import pytest

from hastack.contrib import asgi, wsgi
from hastack.errors import InvalidArgument
from hastack.observe import MetricsEndpoint, PrometheusText
from hastack.observe._scrape import takes_gzip
from hastack.observe.instruments import Metrics

MODERN = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5"


@pytest.fixture
def metrics():
    found = Metrics()
    counter = found.meter("shop").counter("shop.orders")
    for number in range(100):
        counter.add(number, {"number": number})
    return found


def fields(reply):
    return dict(reply.headers)


def test_the_page_as_the_scraper_asks(metrics):
    endpoint = MetricsEndpoint(metrics.collect)
    plain = endpoint.answer("GET")
    assert (plain.status, plain.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'shop_orders_total{number="7",otel_scope_name="shop"} 7\n' in plain.body
    assert "content-encoding" not in fields(plain)
    modern = endpoint.answer("GET", accept=MODERN, encoding="br, gzip;q=0.8")
    assert modern.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert fields(modern)["content-encoding"] == "gzip"
    assert fields(modern)["vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(modern.body).endswith(b"# EOF\n")
    assert len(modern.body) < len(plain.body) / 3
    assert endpoint.counts() == {"served": 2}
    assert endpoint.took > 0


def test_small_pages_are_not_compressed():
    reply = MetricsEndpoint().answer("GET", encoding="gzip")
    assert (reply.status, reply.body, "content-encoding" in fields(reply)) == (200, b"", False)


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate , GZIP ; q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, identity", False),
    ],
)
def test_what_admits_gzip(field, taken):
    assert takes_gzip(field) is taken


def test_other_methods_are_refused():
    endpoint = MetricsEndpoint()
    reply = endpoint.answer("POST")
    assert (reply.status, fields(reply)["allow"]) == (405, "GET, HEAD")
    assert endpoint.counts() == {}


def test_sources_are_joined_on_one_page(metrics):
    other = Metrics()
    other.meter("other").gauge("other.gauge").set(1)
    body = MetricsEndpoint(metrics.collect, lambda: None, other.collect).answer().body.decode()
    assert body.count("# TYPE target_info gauge") == 1
    assert "shop_orders_total{" in body
    assert "other_gauge{" in body


def test_a_source_that_fails_fails_the_scrape(metrics, caplog):
    def broken():
        raise OSError("no such directory")

    endpoint = MetricsEndpoint(metrics.collect, broken)
    reply = endpoint.answer()
    assert reply.status == 500
    assert b"no such directory" in reply.body
    assert endpoint.counts() == {"failed": 1}
    assert "no such directory" in caplog.text


def test_scrapes_at_once_are_bounded():
    inside, go_on = threading.Semaphore(0), threading.Event()

    def slow():
        inside.release()
        assert go_on.wait(30)

    endpoint = MetricsEndpoint(slow, max_scrapes=1)
    thread = threading.Thread(target=endpoint.answer)
    thread.start()
    assert inside.acquire(timeout=30)
    reply = endpoint.answer()
    assert (reply.status, fields(reply)["retry-after"]) == (503, "1")
    go_on.set()
    thread.join(30)
    assert endpoint.answer().status == 200
    assert endpoint.counts() == {"busy": 1, "served": 2}


def test_what_a_page_leaves_out_is_counted_and_logged_once(metrics, caplog):
    metrics.meter("other").gauge("shop.orders.total").set(1)
    endpoint = MetricsEndpoint(metrics.collect)
    assert endpoint.left_out() == {}
    endpoint.answer()
    endpoint.answer()
    assert endpoint.left_out()["conflict"] == 100
    assert caplog.text.count("not all of these metrics can be scraped") == 1
    assert "shop_orders_total" in caplog.text


def test_arguments():
    with pytest.raises(InvalidArgument, match="sources"):
        MetricsEndpoint(None)
    with pytest.raises(InvalidArgument, match="max_scrapes"):
        MetricsEndpoint(max_scrapes=0)
    page = PrometheusText(target_info=False)
    assert b"target_info" not in MetricsEndpoint(Metrics().collect, page=page).answer().body


def call_asgi(app, path, method="GET", headers=(), root=""):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "root_path": root,
        "method": method,
        "query_string": b"",
        "headers": list(headers),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_asgi(metrics):
    threads = []
    endpoint = MetricsEndpoint(metrics.collect, lambda: threads.append(threading.get_ident()))
    mounted = asgi.MetricsApp(endpoint)
    asked = [(b"accept", MODERN.encode()), (b"Accept-Encoding", b"gzip")]
    status, headers, body = call_asgi(mounted, "/anywhere", headers=asked)
    assert (status, headers[b"content-encoding"]) == (200, b"gzip")
    assert gzip.decompress(body).endswith(b"# EOF\n")
    assert call_asgi(mounted, "/", method="HEAD")[2] == b""
    app = asgi.MetricsMiddleware(hello, endpoint=endpoint)
    assert call_asgi(app, "/")[2] == b"hello"
    assert b"shop_orders_total" in call_asgi(app, "/metrics")[2]
    assert b"shop_orders_total" in call_asgi(app, "/api/metrics", root="/api")[2]
    assert threading.get_ident() not in threads


def test_asgi_beyond_http(metrics):
    mounted = asgi.MetricsApp(MetricsEndpoint(metrics.collect))
    sent = []

    async def receive():
        return {"type": "lifespan.shutdown"}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(mounted({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.shutdown.complete"]


def test_asgi_under_trio(metrics):
    import trio

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/", "method": "GET", "headers": []}
    trio.run(asgi.MetricsApp(MetricsEndpoint(metrics.collect)), scope, None, send)
    assert sent[0]["status"] == 200


def test_wsgi(metrics):
    from wsgiref.util import setup_testing_defaults
    from wsgiref.validate import validator

    def call(app, path, **more):
        environ = {
            "PATH_INFO": path,
            "REQUEST_METHOD": "GET",
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            **more,
        }
        setup_testing_defaults(environ)
        started = []
        body = validator(app)(environ, lambda *given: started.append(given) or (lambda data: None))
        try:
            return started[-1][0], dict(started[-1][1]), b"".join(body)
        finally:
            body.close()

    def plain(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    endpoint = MetricsEndpoint(metrics.collect)
    status, headers, body = call(wsgi.MetricsApp(endpoint), "/x", HTTP_ACCEPT_ENCODING="gzip")
    assert (status, headers["content-encoding"]) == ("200 OK", "gzip")
    assert b"shop_orders_total" in gzip.decompress(body)
    app = wsgi.MetricsMiddleware(plain, endpoint=endpoint)
    assert call(app, "/")[2] == b"hello"
    assert b"shop_orders_total" in call(app, "/metrics", HTTP_ACCEPT=MODERN)[2]

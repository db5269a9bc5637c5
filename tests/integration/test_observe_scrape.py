"""The page behind real sockets: real Prometheus, slow clients, busy loops, forks, shutdown."""

import asyncio
import gzip
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import prometheus_servers
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from hastack import config, events, observe
from hastack.errors import ClosedError, InvalidArgument
from hastack.observe.instruments import Metrics

SAMPLED = trace.NonRecordingSpan(
    SpanContext(0xABCDEF, 0x1234, is_remote=False, trace_flags=TraceFlags(1))
)


def settings(**prometheus):
    table = {"enabled": True, "port": 0, **prometheus}
    return config.load(env=None, override={"observe": {"service": "shop", "prometheus": table}})


def get(port, path="/metrics", timeout=30, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return response.read().decode()


def value(page, line):
    """The number of the sample that begins with ``line``."""
    (found,) = [each for each in page.splitlines() if each.startswith(f"{line} ")]
    return float(found.rpartition(" ")[2])


@pytest.mark.skipif(prometheus_servers.BINARY is None, reason="prometheus is not installed")
def test_prometheus_scrapes_what_was_installed(scraping):
    server, port = scraping, scraping.free.pop()
    with observe.install(settings(port=port), set_global=False) as installed:
        shop = installed.metrics.meter("shop")
        shop.counter("shop.orders").add(3, {"kind": "paid"})
        with trace.use_span(SAMPLED):
            shop.histogram("shop.payment", unit="s").record(0.042)
        sdk = installed.meter_provider.get_meter("sdk")
        sdk.create_counter("sdk.orders").add(4)
        sdk.create_observable_gauge("sdk.level", [lambda _: [_observation(7)]])
        assert server.wait_for('shop_orders_total{kind="paid"}')[0]["value"][1] == "3"
        assert server.query("sdk_orders_total")[0]["value"][1] == "4"
        assert server.query("sdk_level")[0]["value"][1] == "7"
        (target,) = server.query(f'target_info{{job="page-{port}"}}')
        assert target["metric"]["service_name"] == "shop"
        (exemplar,) = server.exemplars("shop_payment_seconds_bucket")[0]["exemplars"]
        assert exemplar["labels"]["trace_id"] == f"{0xABCDEF:032x}"
        assert server.wait_for('hastack_observe_scrapes_total{outcome="served"} >= 2')
        assert server.query("hastack_observe_scrape_duration_seconds > 0")


def _observation(value):
    from opentelemetry.metrics import Observation

    return Observation(value)


def test_events_are_on_the_page():
    topic = events.topic(_Something)
    with observe.install(settings(), set_global=False) as installed:
        topic.publish(_Something())
        page = get(installed.server.port)
        found = [line for line in page.splitlines() if "_Something" in line or "something" in line]
        assert found, page


class _Something(events.Event):
    pass


def test_a_busy_loop_keeps_no_scrape_waiting():
    """The page comes while the loop computes, and while it is blocked."""
    with observe.install(settings(), set_global=False) as installed:
        installed.metrics.meter("shop").counter("shop.orders").add(1)
        port, done = installed.server.port, threading.Event()
        pages = []

        def scrape():
            pages.append(get(port))
            pages.append(get(port))
            done.set()

        async def main():
            threading.Thread(target=scrape, daemon=True).start()
            until = time.monotonic() + 30
            while not done.is_set() and time.monotonic() < until:  # gives nobody the loop
                sum(range(1000))

        asyncio.run(main())
        assert done.is_set()
        assert all("shop_orders_total" in page for page in pages)


def test_methods_paths_and_broken_requests():
    endpoint = observe.MetricsEndpoint(Metrics().collect)
    with observe.MetricsServer(endpoint, port=0, path="/m") as server:
        assert get(server.port, "/m?x=1") is not None
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.port, "/metrics")
        for sent, status in (
            (b"nonsense\r\n\r\n", b" 400 "),
            (b"POST /m HTTP/1.1\r\n\r\n", b" 405 "),
            (b"GET /m HTTP/1.1\r\nx: " + b"y" * 10_000, b" 431 "),
            (b"HEAD /m HTTP/1.0\r\n\r\n", b" 200 "),
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
                client.sendall(sent)
                answer = b""
                while data := client.recv(65536):
                    answer += data
            assert status in answer.split(b"\r\n")[0]
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"GET /m HT")  # and gone


def test_a_large_page_goes_over_the_wire_compressed():
    metrics = Metrics(limit=10_000)
    counter = metrics.meter("shop").counter("shop.orders")
    for number in range(5000):
        counter.add(1, {"number": number})
    endpoint = observe.MetricsEndpoint(metrics.collect)
    with observe.MetricsServer(endpoint, port=0) as server:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/metrics", headers={"Accept-Encoding": "gzip"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            body = response.read()
        assert gzip.decompress(body).decode().splitlines() == get(server.port).splitlines()


def test_slow_clients_hold_their_places_for_a_time_only():
    endpoint = observe.MetricsEndpoint(Metrics().collect)
    with observe.MetricsServer(endpoint, port=0, max_connections=2, timeout=0.3) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        stopped = threading.Event()

        def drip():  # a byte now and then starts no time anew
            while not stopped.wait(0.05):
                for each in slow:
                    try:
                        each.send(b"G")
                    except OSError:
                        pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert get(server.port) is not None
        finally:
            stopped.set()
            thread.join(30)
            for each in slow:
                each.close()


def test_many_scrapes_at_once():
    metrics = Metrics()
    metrics.meter("shop").counter("shop.orders").add(1)
    endpoint = observe.MetricsEndpoint(metrics.collect, max_scrapes=2)
    answers = []
    with observe.MetricsServer(endpoint, port=0) as server:

        def scrape():
            for _ in range(10):
                try:
                    assert "shop_orders_total" in get(server.port)
                    answers.append(200)
                except urllib.error.HTTPError as error:
                    answers.append(error.code)
                    error.close()

        threads = [threading.Thread(target=scrape) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(answers) == 80
    assert set(answers) <= {200, 503}
    counts = endpoint.counts()
    assert counts["served"] == answers.count(200)
    assert counts.get("busy", 0) == answers.count(503)


def test_the_port_is_taken():
    with observe.install(settings(), set_global=False) as installed:
        taken = installed.server.port
        with pytest.raises(OSError, match=f"localhost:{taken}.*metrics directory"):
            observe.install(settings(port=taken), set_global=False)
        assert "target_info" in get(taken)
    with pytest.raises(OSError, match="Connection refused"):
        get(taken)
    with observe.install(settings(port=taken), set_global=False) as again:
        assert again.server.port == taken


def test_the_standard_variables(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    table = {"observe": {"prometheus": {"enabled": True}}}
    wanted = config.load(env=None, override=table)
    with observe.install(wanted, set_global=False):
        assert "target_info" in get(port)
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "metrics")
    with pytest.raises(InvalidArgument, match="OTEL_EXPORTER_PROMETHEUS_PORT"):
        observe.install(wanted, set_global=False)


def test_the_page_is_served_until_everything_else_has_ended():
    """A backend that does not answer makes the shutdown wait; its end can still be scraped."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
        table = {
            "service": "shop",
            "prometheus": {"enabled": True, "port": 0},
            "backends": {"hole": {"endpoint": endpoint, "signals": ["traces"]}},
            "queue": {"linger": 0.01},
        }
        installed = observe.install(
            config.load(env=None, override={"observe": table}), set_global=False
        )
        port = installed.server.port
        installed.tracer_provider.get_tracer("t").start_span("s").end()
        reports = []
        ending = threading.Thread(target=lambda: reports.append(installed.shutdown(1.0)))
        ending.start()
        while installed._bridge is not None and not installed.pipeline.exporters[0]._flow.closing:
            time.sleep(0.001)
        line = 'hastack_observe_units_total{exporter="hole-traces",otel_scope_name="hastack.observe",state="emitted"}'
        assert value(get(port), line) == 1
        ending.join(30)
        assert not reports[0]
        assert reports[0].took < 10
        with pytest.raises(OSError, match="refused"):
            get(port)


def test_a_scrape_that_runs_is_given_time_to_end_and_no_more():
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert go_on.wait(30)

    server = observe.MetricsServer(observe.MetricsEndpoint(slow), port=0)
    server.start()
    port, pages = server.port, []
    client = threading.Thread(target=lambda: pages.append(get(port)))
    client.start()
    assert inside.wait(30)
    threading.Timer(0.2, go_on.set).start()
    server.stop(30.0)
    client.join(30)
    assert pages == [""]

    inside.clear()
    go_on.clear()
    server = observe.MetricsServer(observe.MetricsEndpoint(slow), port=0)
    server.start()
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert inside.wait(30)
    began = time.monotonic()
    server.stop(0.2)
    assert time.monotonic() - began < 10
    assert client.recv(100) == b""
    client.close()
    go_on.set()
    with pytest.raises(ClosedError):
        server.start()
    server.stop()


def forked(work):
    """Run ``work`` in a child that stays; its pid and what the work returned as text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os.write(write, str(work()).encode())
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as end:
        return pid, end.read(1000).decode()


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_child_without_a_directory_serves_nothing():
    with observe.install(settings(), set_global=False) as installed:
        installed.metrics.meter("shop").counter("shop.orders").add(1)
        pid, _ = forked(lambda: installed.server._thread)
        try:
            for _ in range(5):
                assert "shop_orders_total" in get(installed.server.port)
        finally:
            kill(pid)


def test_processes_that_share_their_numbers_share_the_port(tmp_path):
    """Whoever answers knows the totals of all, and the death of any leaves the others serving."""
    wanted = observe.ObserveConfig(
        service="shop",
        metrics_directory=tmp_path,
        prometheus=observe.PrometheusConfig(enabled=True, port=0),
    )
    line = 'shop_orders_total{otel_scope_name="shop"}'
    installed = observe.install(wanted, set_global=False)
    port = installed.server.port
    counter = installed.metrics.meter("shop").counter("shop.orders")
    installed.meter_provider.get_meter("sdk").create_counter("sdk.orders").add(1)
    counter.add(5)
    children = []
    try:
        for _ in range(3):  # forked, as gunicorn --preload does
            pid, answer = forked(lambda: (counter.add(2), installed.server.port)[1])
            children.append(pid)
            assert answer == str(port)
        pages = [get(port) for _ in range(20)]
        assert {value(page, line) for page in pages} == {11.0}
        assert not any("sdk_orders" in page for page in pages)  # each counts its own only
        kill(children.pop())
        installed.server.stop()  # now only children serve
        assert {value(_get_again(port), line) for _ in range(10)} == {11.0}
    finally:
        for pid in children:
            kill(pid)
        installed.shutdown()


def _get_again(port):
    """A page; connections that wait for a process that ends are reset."""
    until = time.monotonic() + 30
    while True:
        try:
            return get(port)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.01)

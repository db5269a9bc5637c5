"""``hastack observe`` against real servers, files and processes."""

from __future__ import annotations

import json
import os
import time
from inspect import signature

import pytest
from observe_items import DOWN, numbers
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from otlp_servers import GrpcServer, HttpServer
from push_servers import LokiServer, RemoteWriteServer

pytest.importorskip("click")

from click.testing import CliRunner

from hastack import config, observe
from hastack.cli._app import app
from hastack.observe import BackendConfig, QueueConfig, SpillConfig, instruments
from hastack.observe._backends import exporter_of
from hastack.observe._replay import directories, look
from hastack.observe._status import read_status
from hastack.observe.traces import SpanProcessor

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def run(monkeypatch):
    for name in list(os.environ):
        if name.startswith("HASTACK_"):
            monkeypatch.delenv(name)
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    return lambda *args, **kw: CliRunner(**apart).invoke(app, ["observe", *map(str, args)], **kw)


@pytest.fixture
def settings(tmp_path):
    def write(*backends):
        lines = []
        for name, kind, url in backends:
            lines += [f"[observe.backends.{name}]", f'kind = "{kind}"', f'endpoint = "{url}"']
        path = tmp_path / "service.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_check_of_backends_that_are_well(run, settings):
    with HttpServer() as http, GrpcServer() as grpc, LokiServer() as loki:
        with RemoteWriteServer() as two, RemoteWriteServer(versions=(1,)) as one:
            path = settings(
                ("collector", "otlp-http", http.url),
                ("jaeger", "otlp-grpc", grpc.url),
                ("loki", "loki", loki.url),
                ("prometheus", "remote-write", two.url),
                ("old", "remote-write", one.url),
            )
            done = run("check", "--config", path)
    assert done.exit_code == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert all(line.startswith("ok  ") for line in lines)
    assert "remote-write-2" in lines[-2]
    assert "remote-write-1" in lines[-1]


def test_check_says_what_is_wrong(run, settings):
    with HttpServer() as http, GrpcServer() as grpc, LokiServer() as loki:
        http.script.extend([401, 503, 404])
        path = settings(
            ("collector", "otlp-http", http.url),
            ("nobody", "otlp-http", "http://127.0.0.1:9"),
            ("nowhere", "otlp-http", "http://does-not-exist.invalid:4318"),
            ("mixed", "otlp-http", f"http://{grpc.url}"),
            ("loki", "loki", f"{loki.url}/wrong/path"),
        )
        done = run("check", "--config", path, "--json", "--timeout", "3")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert not any(row["ok"] for row in rows)
    said = {(row["backend"], row["signal"]): row["says"] for row in rows}
    assert "credentials" in said["collector", "traces"]
    assert "takes nothing now" in said["collector", "metrics"]
    assert "endpoint" in said["collector", "logs"]
    assert said["nobody", "traces"].startswith("nobody listens there")
    assert said["nowhere", "traces"].startswith("the name does not resolve")
    assert "protocol" in said["mixed", "traces"]
    assert "nothing at this path" in said["loki", "logs"]


def test_check_of_grpc_and_wrong_usage(run, settings):
    with HttpServer() as http:
        path = settings(("jaeger", "otlp-grpc", http.url.removeprefix("http://")))
        done = run("check", "--config", path, "--timeout", "3")
        assert done.exit_code == 1
    assert run("check").exit_code == 2
    assert "no backends" in run("check").stderr
    path = settings(("x", "loki", "http://a"))
    path.write_text(path.read_text() + 'signals = ["traces"]\n')
    assert "signals" in run("check", "--config", path).stderr
    path.write_text("[observe]\nbakends = 3\n")
    assert "bakends" in run("check", "--config", path).stderr


def test_check_of_the_page(run, tmp_path):
    path = tmp_path / "service.toml"

    def check(port):
        path.write_text(f"[observe.prometheus]\nenabled = true\nhost = '0.0.0.0'\nport = {port}\n")
        done = run("check", "--config", path)
        return done.exit_code, done.stdout

    metrics = instruments.Metrics()
    metrics.meter("shop").counter("shop.orders").add(1)
    with observe.MetricsServer(observe.MetricsEndpoint(metrics.collect), port=0) as server:
        port = server.port
        code, said = check(port)
        assert code == 0
        assert f"ok   prometheus metrics http://127.0.0.1:{port}/metrics: 2 series" in said
    assert "nobody serves it yet" in check(port)[1]
    with HttpServer() as other:
        code, said = check(other.port)
        assert code == 1
        assert "FAIL prometheus metrics" in said


def test_help_lists_the_commands(run):
    out = run("--help").stdout
    assert all(name in out for name in ("check", "replay", "tail"))
    assert run("nonsense").exit_code == 2


# -- replay ------------------------------------------------------------------------------------


def leave(server_kind, url, directory, count=300):
    """What an exporter leaves behind whose backend was down."""
    queue = QueueConfig(when_full="spill", linger=0.01, batch=50)
    backend = BackendConfig(kind=server_kind, endpoint=url)
    exporter = exporter_of(
        "main", backend, "traces", queue=queue, spill=SpillConfig(directory=directory)
    )
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for name in numbers(count):
        tracer.start_span(name).end()
    report = exporter.shutdown(1.0)
    assert report.account.spilled == count


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_replay_sends_what_was_left(run, tmp_path, kind):
    dead = "127.0.0.1:9" if kind == "otlp-grpc" else "http://127.0.0.1:9"
    leave(kind, dead, tmp_path)
    shown = run("replay", tmp_path)
    assert shown.exit_code == 0
    assert "300 units, otlp-traces" in shown.stdout
    with HttpServer() if kind == "otlp-http" else GrpcServer() as server:
        if kind == "otlp-http":
            server.script.append(503)
        done = run("replay", tmp_path, "--endpoint", server.url, "--header", "X-A=b")
        assert done.exit_code == 0, done.stdout
        assert "300 sent" in done.stdout
        assert [name for _, name in server.spans()] == numbers(300)
        assert {n.lower(): v for n, v in server.headers[0].items()}["x-a"] == "b"
    assert "nothing was left" in run("replay", tmp_path).stdout
    assert list((tmp_path / "main-traces").iterdir()) == []


def test_replay_goes_on_where_it_was(run, tmp_path):
    leave("otlp-http", "http://127.0.0.1:9", tmp_path)
    with HttpServer() as server:
        server.script.extend(["ok", "ok", 400, *[503] * 2])
        done = run("replay", tmp_path, "--endpoint", server.url, "--tries", 2)
        assert done.exit_code == 1
        assert "100 sent" in done.stdout
        assert "50 refused (http_400)" in done.stdout
        assert "150 left" in done.stdout
        done = run("replay", tmp_path, "--endpoint", server.url)
        assert done.exit_code == 0
        expected = numbers(300)
        assert [name for _, name in server.spans()] == expected[:100] + expected[150:]


def test_replay_leaves_running_processes_alone(run, tmp_path):
    queue = QueueConfig(when_full="spill", linger=0.01, batch=10, max_units=20)
    backend = BackendConfig(endpoint="http://127.0.0.1:9")
    exporter = exporter_of(
        "main", backend, "traces", queue=queue, spill=SpillConfig(directory=tmp_path)
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor(exporter))
    for name in numbers(100):
        provider.get_tracer("test").start_span(name).end()
    (path,) = directories(tmp_path)
    assert look(path).live
    with HttpServer() as server:
        done = run("replay", tmp_path, "--endpoint", server.url)
        assert "its process runs" in done.stdout
        assert not server.requests
    exporter.shutdown(1.0)
    # It returns when its time is over; a thread that had no turn meanwhile lets go a little later.
    ends = time.monotonic() + 20.0
    while look(path).live and time.monotonic() < ends:
        time.sleep(0.02)
    assert not look(path).live
    assert look(path).units == 100


def test_replay_wrong_usage(run, tmp_path):
    leave("otlp-http", "http://127.0.0.1:9", tmp_path, 1)
    assert run("replay", tmp_path / "nowhere").exit_code == 2
    assert run("replay", tmp_path, "--header", "x").exit_code == 2
    assert run("replay", tmp_path, "--endpoint", "ftp://x").exit_code == 2
    assert DOWN.kind == "connect"


# -- tail --------------------------------------------------------------------------------------


def test_tail_shows_accounts(run, tmp_path):
    status = tmp_path / "status"
    with HttpServer() as server:
        loaded = config.load(
            env=None,
            override={
                "observe": {
                    "service": "shop",
                    "status": str(status),
                    "backends": {"main": {"endpoint": server.url, "signals": ["traces"]}},
                    "queue": {"linger": "10ms"},
                }
            },
        )
        with observe.install(loaded, set_global=False) as installed:
            installed.tracer_provider.get_tracer("app").start_span("one").end()
            assert installed.force_flush(20.0)
            installed._status._write()
            shown = run("tail", "--status", status, "--count", 1)
            assert f"shop {os.getpid()} main-traces: 1 emitted, 1 sent" in shown.stdout
            rates = run("tail", "--status", status, "--count", 2, "--every", "1.2").stdout
            assert "0/s in, 0/s out" in rates
            (row,) = json.loads(run("tail", "--status", status, "--count", 1, "--json").stdout)
            assert row["alive"]
            assert row["accounts"]["main-traces"]["sent"] == 1
        assert "no process" in run("tail", "--status", status, "--count", 1).stdout
    (status / "1.json").write_text("{}")
    (status / "2.json").write_text("not json")
    gone = {"pid": 2**22 + 1, "service": "", "at": 0.0, "accounts": {"x": {"emitted": 3}}}
    (status / "3.json").write_text(json.dumps(gone))
    (found,) = read_status(status)
    assert not found.alive
    assert "(ended) x: 3 emitted" in run("tail", "--status", status, "--count", 1).stdout
    assert run("tail").exit_code == 2


def test_a_status_directory_that_cannot_be_used_is_said_once(tmp_path, caplog):
    from hastack.observe._status import StatusFile

    (tmp_path / "file").write_text("")
    status = StatusFile(tmp_path / "file" / "x", "shop", observe.Pipeline([]))
    status._write()
    status.close()
    assert len([r for r in caplog.records if "accounts cannot be written" in r.message]) == 1

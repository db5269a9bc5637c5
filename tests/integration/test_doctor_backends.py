"""``hastack doctor`` beside real servers: what it says when they are well, ill, or not there."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from inspect import signature

import pytest
from certificates import Authority
from otlp_servers import GrpcServer, HttpServer
from push_servers import LokiServer

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner

from hastack.cli._app import app

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def doctor(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("HASTACK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}

    def call(settings, *args):
        (tmp_path / "hastack.toml").write_text(settings)
        done = CliRunner(**apart).invoke(app, ["doctor", "--json", "--timeout", "3", *args])
        found = json.loads(done.stdout)["findings"]
        return done.exit_code, found

    return call


def backend(name, kind, endpoint, **more):
    lines = [f"[observe.backends.{name}]", f'kind = "{kind}"', f'endpoint = "{endpoint}"']
    return "\n".join([*lines, *(f'{key} = "{value}"' for key, value in more.items()), ""])


def test_servers_that_are_well(doctor):
    with HttpServer() as http, GrpcServer() as grpc, LokiServer() as loki:
        status, found = doctor(
            backend("collector", "otlp-http", http.url)
            + backend("jaeger", "otlp-grpc", grpc.url)
            + backend("loki", "loki", loki.url)
            + "[observe.prometheus]\nenabled = true\nport = 1\n",
            "backends",
        )
    assert status == 0, found
    assert {each["name"] for each in found} == {
        *("discovery", "collector", "jaeger", "loki", "prometheus"),
    }
    assert all(each["status"] == "ok" for each in found)


def test_servers_that_are_not_there(doctor):
    with socket.socket() as silent:  # bound and never listening: refused
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        status, found = doctor(
            f'[discovery]\nurl = "etcd://127.0.0.1:{port}"\n'
            + backend("collector", "otlp-http", f"http://127.0.0.1:{port}")
            + backend("loki", "loki", "http://nowhere.invalid:3100")
        )
    assert status == 1
    found = {each["name"]: each for each in found if each["section"] == "backends"}
    # Said once for all signals.
    assert "traces, metrics, logs to http" in found["collector"]["says"]
    assert "nobody listens there" in found["collector"]["says"]
    assert "the name does not resolve" in found["loki"]["says"]
    assert found["discovery"]["status"] == "broken"
    assert "0 of 1 endpoints answer" in found["discovery"]["says"]
    assert "does not answer" in found["discovery"]["notes"][0]


def test_errors_of_tls_are_named(doctor, tmp_path):
    own, other = (Authority(tmp_path / name) for name in ("own", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own.issue("server"))
    with HttpServer() as server:
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        status, found = doctor(
            backend("trusted", "otlp-http", url, ca_file=own.path)
            + backend("stranger", "otlp-http", url, ca_file=other.path)
        )
    assert status == 1
    found = {each["name"]: each for each in found if each["section"] == "backends"}
    assert found["trusted"]["status"] == "ok", found["trusted"]["says"]
    assert found["stranger"]["status"] == "broken"
    assert "the TLS handshake failed" in found["stranger"]["says"]


def test_a_backend_whose_settings_contradict(doctor):
    settings = backend("loki", "loki", "http://127.0.0.1:1") + 'signals = ["traces"]\n'
    status, found = doctor(settings, "backends.loki")
    assert status == 1
    assert "signals" in found[0]["says"]


def test_etcd_and_its_clock(doctor, shared_etcd):
    began = time.monotonic()
    status, found = doctor(
        f'[discovery]\nurl = "etcd://{shared_etcd.endpoint}"\n', "clocks", "backends"
    )
    assert status == 0
    named = {each["name"]: each for each in found}
    assert "1 of 1 endpoints answer (etcd 3." in named["discovery"]["says"]
    assert any("one member" in each for each in named["discovery"]["notes"])
    clock = named[shared_etcd.endpoint]["facts"]
    assert abs(clock["ahead"]) <= clock["within"] + 0.01  # it is this very clock
    assert time.monotonic() - began < 50.0

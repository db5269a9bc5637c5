"""Servers that integration tests start for themselves."""

from __future__ import annotations

import prometheus_servers
import pytest
from bpf_objects import cgroup, probed  # noqa: F401  # fixtures
from etcd_servers import Etcd, TcpProxy, binaries, cluster


@pytest.fixture(params=["3.4", "3.5"])
def etcd_binary(request):
    """Path of an etcd server; tests that use it run once per version."""
    found = binaries()
    if request.param not in found:
        pytest.skip(f"no etcd {request.param} on this machine")
    return found[request.param]


@pytest.fixture(scope="module", params=["3.4", "3.5"])
def shared_etcd(request, tmp_path_factory):
    """One member for the tests of a module, which use keys of their own; once per version."""
    found = binaries()
    if request.param not in found:
        pytest.skip(f"no etcd {request.param} on this machine")
    member = Etcd(tmp_path_factory.mktemp("shared"), binary=found[request.param])
    yield member.start()
    member.discard()


@pytest.fixture
def make_etcd(tmp_path, request):
    """Starts etcd members; they end with the test."""
    if not binaries():
        pytest.skip("no etcd on this machine")
    started: list[Etcd] = []

    def make(name="one", *, binary=None, options=(), tls=False):
        member = Etcd(tmp_path / name, binary=binary, options=options, name=name, tls=tls)
        started.append(member)
        return member.start()

    yield make
    for member in started:
        member.discard()


@pytest.fixture
def etcd(make_etcd):
    """One running member of the oldest version at hand."""
    return make_etcd()


@pytest.fixture
def make_etcd_cluster(tmp_path):
    """Starts a cluster of several members; they end with the test."""
    started: list[Etcd] = []

    def make(size=3, *, binary=None, options=()):
        started.extend(cluster(tmp_path / "cluster", size, binary=binary, options=options))
        return started

    yield make
    for member in started:
        member.discard()


@pytest.fixture
def make_proxy():
    """Puts a `TcpProxy` before a port."""
    started: list[TcpProxy] = []

    def make(target):
        started.append(TcpProxy(target))
        return started[-1]

    yield make
    for proxy in started:
        proxy.close()


@pytest.fixture(scope="session")
def scraping(tmp_path_factory):
    """A Prometheus that scrapes ports of its choice: it takes five seconds until it begins to."""
    ports = [prometheus_servers.free_port() for _ in range(3)]
    with prometheus_servers.running(tmp_path_factory.mktemp("prometheus"), *ports) as server:
        server.free = ports
        yield server


@pytest.fixture
def short_pauses(monkeypatch):
    """Exporters try again soon."""
    monkeypatch.setattr("hastack.observe._exporter._PAUSE", 0.05)

"""``hastack discovery`` as processes that share one store."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from inspect import signature

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner

from hastack import discovery
from hastack.cli._app import app
from hastack.cli._discovery_clock import Skew, skew
from hastack.cli._discovery_findings import findings, old_version
from hastack.discovery import memory
from hastack.discovery._layout import REGISTERED

BOUND = 40.0


@pytest.fixture
def url(tmp_path):
    return f"memory://{tmp_path}/store"


@pytest.fixture
def env():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HASTACK_")}
    return {**kept, "COLUMNS": "160"}


@pytest.fixture
def start(env):
    """Starts ``hastack discovery ...``; it ends with the test."""
    started = []

    @contextmanager
    def go(*args, **more):
        one = subprocess.Popen(
            [sys.executable, "-m", "hastack", "discovery", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**env, **more},
        )
        started.append(one)
        yield one

    yield go
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def run(start):
    def go(*args, **more):
        with start(*args, **more) as one:
            out, err = one.communicate(timeout=BOUND)
        return one.returncode, out, err

    return go


def end(one):
    one.send_signal(signal.SIGTERM)
    out, err = one.communicate(timeout=BOUND)
    return one.returncode, out, err


def test_register_list_watch(url, start, run) -> None:
    assert run("list", "--url", url) == (0, "nothing is registered\n", "")
    with start("watch", "orders", "--json", "--url", url) as watching:
        assert json.loads(watching.stdout.readline())["kind"] == "synced"
        with start(
            *("register", "orders", "10.0.0.7:8080", "--id", "one", "-m", "v=2", "--weight", "3"),
            *("--zone", "b", "--grace", "0.3", "--url", url),
        ) as registered:
            assert "orders/one at 10.0.0.7:8080: present" in registered.stdout.readline()
            added = json.loads(watching.stdout.readline())
            assert added["kind"] == "added"
            assert added["instance"]["metadata"] == {"v": "2"}
            status, out, _ = run("list", HASTACK_DISCOVERY_URL=url)
            assert status == 0
            assert out.split()[-4:] == ["orders", "1", "-", "local"]
            _, out, _ = run("list", "orders", HASTACK_DISCOVERY__URL=url)
            assert out.splitlines()[1].split() == [
                *("one", "10.0.0.7:8080", "up", "3", "b", "v=2"),
            ]
            _, out, _ = run("list", "orders", "--json", "--url", url)
            assert json.loads(out)["orders"]["instances"][0]["weight"] == 3.0
            with start("watch", "orders", "--url", url) as plainly:
                assert "+ one 10.0.0.7:8080 weight 3" in plainly.stdout.readline()
                status, out, err = end(registered)
                assert (status, err) == (0, "")
                assert out.splitlines()[0].endswith(" leaving")
                assert out.splitlines()[-1].endswith(" gone")
                assert "~ one 10.0.0.7:8080 weight 3 draining" in plainly.stdout.readline()
                assert "- one" in plainly.stdout.readline()
        assert json.loads(watching.stdout.readline())["instance"]["draining"]
        assert json.loads(watching.stdout.readline())["kind"] == "removed"


def test_namespaces_and_settings_files(url, tmp_path, start, run) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[discovery]\nurl = "{url}"\nnamespace = "staging"\n')
    with start("register", "orders", "a:1", "--config", str(settings)) as registered:
        registered.stdout.readline()
        assert "orders" in run("list", "--config", str(settings))[1]
        assert "nothing" in run("list", "--config", str(settings), "--namespace", "other")[1]
        assert end(registered)[0] == 0


def test_a_check_decides(url, tmp_path, start) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with start(
            *("register", "orders", "a:1", "--check", f"tcp://127.0.0.1:{port}"),
            *("--interval", "0.05", "--grace", "0", "--url", url),
        ) as registered:
            assert registered.stdout.readline().endswith("present\n")
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            said = registered.stdout.readline()
            assert "unhealthy" in said
            assert "refused" in said.lower() or "Connect call failed" in said
            end(registered)


def test_doctor_on_the_embedded_store(url, run) -> None:
    status, out, err = run("doctor", "--url", url)
    assert (status, err) == (0, "")
    assert "nothing to complain about" in out
    status, out, _ = run("doctor", "--json", "--url", url)
    report = json.loads(out)
    assert report["warnings"] == []
    assert report["watch"]["puts"] == 20
    assert report["lease"]["ttl"] == 10.0


def test_doctor_sees_what_is_wrong_with_the_registry(url, run) -> None:
    async def spoil():
        store = memory.connect(url)
        await store.put(REGISTERED + b"local/default/orders/bad", "junk")
        reg = discovery.Registry(store, origin="west")
        async with reg, reg.register("orders", "a:1", grace=0.0):
            done = await asyncio.to_thread(run, "doctor", "--url", url)
        await store.aclose()
        return done

    status, out, _ = asyncio.run(spoil())
    assert status == 0
    assert "under origin 'west' as well" in out
    assert "1 keys hold no instance" in out


def test_doctor_on_etcd(shared_etcd, run) -> None:
    status, out, err = run("doctor", "--json", "--url", f"etcd://{shared_etcd.endpoint}")
    assert (status, err) == (0, "")
    report = json.loads(out)
    [one] = report["endpoints"]
    assert one["leads"]
    assert one["revision"] >= 1
    assert one["db_size"] > 0
    assert abs(one["clock"]["ahead"]) <= one["clock"]["within"] + 0.01  # it is this very clock
    assert "error" not in report["lease"]
    assert report["watch"]["put_to_event_max"] > 0
    assert len(report["members"]) == 1
    old = any("its watches can lose events" in each for each in report["warnings"])
    assert old == (old_version(one["version"]) is not None)
    assert any("one member" in each for each in report["warnings"])


def test_doctor_without_a_store_says_so_once(run) -> None:
    status, out, _ = run("doctor", "--url", "etcd://127.0.0.1:1", "--timeout", "1")
    assert status == 1
    warnings = [line for line in out.splitlines() if line.startswith("! ")]
    assert len(warnings) == 1
    assert "does not answer" in warnings[0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("list",), "which store?"),
        (("list", "--url", "redis://"), "url="),
        (("list", "--url", "memory://x", "--namespace", ""), "namespace="),
        (("watch", "", "--url", "memory://x"), "service="),
        (("register", "", "a:1", "--url", "memory://x"), "service="),
        (("register", "orders", "a:1", "-m", "v", "--url", "memory://x"), "NAME=VALUE"),
        (("register", "orders", "a:1", "--check", "a:1", "--url", "memory://x"), "tcp://"),
        (("register", "orders", "a:1", "--check", "tcp://a", "--url", "memory://x"), "tcp://a"),
        (("register", "orders", "a:1", "--weight", "-1", "--url", "memory://x"), "weight"),
    ],
)
def test_wrong_usage_is_said_without_a_traceback(monkeypatch, args, said) -> None:
    for name in [name for name in os.environ if name.startswith("HASTACK_")]:
        monkeypatch.delenv(name)
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    result = CliRunner(**apart).invoke(app, ["discovery", *args])
    assert result.exit_code in {1, 2}
    assert isinstance(result.exception, SystemExit)
    assert said in result.stderr
    assert result.stdout == ""


def test_a_store_that_is_away_is_an_error_in_time(run) -> None:
    began = time.monotonic()
    commands = (("list",), ("list", "orders"), ("register", "orders", "a:1"))
    away = ("--url", "etcd://127.0.0.1:1", "--timeout", "0.5")
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda command: run(*command, *away), commands))
    for status, _, err in ended:
        assert status == 1
        assert err.startswith("Error: ")
        assert "Traceback" not in err
    assert time.monotonic() - began < BOUND


@given(
    ahead=st.floats(-100.0, 100.0),
    start=st.floats(0.0, 2.0),
    trips=st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.3)), min_size=1, max_size=15),
)
def test_what_dates_say_of_a_clock_is_true(ahead, start, trips) -> None:
    found, now = Skew(), 1000.0 + start
    for there, back in trips:
        found.add(float(math.floor(now + there + ahead)), now, now + there + back)
        now += there + back + 0.1
        assert abs(found.ahead - ahead) <= found.within + 1e-6


def test_a_clock_that_is_wrong_and_an_answer_that_is_none() -> None:
    async def main():
        async def answer(reader, writer):
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    date = formatdate(time.time() - 3.0, usegmt=True)
                    writer.write(
                        f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
                    )
            except asyncio.IncompleteReadError:
                writer.close()

        async def nonsense(reader, writer):
            writer.write(b"\0\0\x06\x04\r\n\r\n")
            writer.close()

        async with (
            await asyncio.start_server(answer, "127.0.0.1", 0) as late,
            await asyncio.start_server(nonsense, "127.0.0.1", 0) as other,
        ):
            ports = [each.sockets[0].getsockname()[1] for each in (late, other)]
            found, nothing = await asyncio.gather(
                *(skew(f"127.0.0.1:{port}", None, 5.0) for port in ports)
            )
        assert abs(found["ahead"] + 3.0) <= found["within"] + 0.01
        assert found["within"] < 0.5
        assert nothing is None
        assert await skew("127.0.0.1:1", None, 5.0) is None

    asyncio.run(main())


# What is worth a warning ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "better"),
    [
        ("3.4.23", "3.4.31"),
        ("3.4.31", None),
        ("3.5.1", "3.5.13"),
        ("3.5.13", None),
        ("3.5.21", None),
        ("3.6.0", None),
        ("3.3.27", "3.5.13"),
        ("4.0.0", None),
        ("unknown", None),
    ],
)
def test_old_versions(version, better) -> None:
    assert old_version(version) == better


def endpoint(name="a:2379", **more):
    return {
        "endpoint": name,
        "version": "3.5.21",
        "member": "1",
        "leader": "1",
        "leads": True,
        "revision": 5,
        "db_size": 1,
        "db_size_in_use": 1,
        "errors": [],
        "learner": False,
        "round_trip": 0.001,
        "clock": {"ahead": 0.2, "within": 0.05},
        **more,
    }


def report(*endpoints, **more):
    return {
        "origin": "local",
        "endpoints": list(endpoints),
        "members": [{}, {}, {}],
        "lease": {"round_trip": 0.01},
        "watch": {"put_to_event_max": 0.01},
        "registry": {"origins": ["local"], "malformed": [], "stale_origins": [], "clock_ahead": 0},
        **more,
    }


THREE = (endpoint("a"), endpoint("b", leads=False), endpoint("c", leads=False))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (report(*THREE), []),
        (report(*THREE[:2]), ["names 2 of 3 members"]),
        (report(THREE[0]), ["1 of 3 members answer", "names 1 of 3 members"]),
        (report(THREE[0], members=[{}]), ["one member"]),
        (report(*THREE, endpoint("d"), members=[{}] * 4), ["4 members"]),
        (report(*THREE[:2], {"endpoint": "c", "error": "gone"}), ["c does not answer: gone"]),
        (report(*THREE[:2], endpoint("c", version="3.4.23")), ["at c: its watches"]),
        (
            report(*(endpoint(n, version="3.5.1") for n in "abc")),
            ["3.5.1 runs at a, b, c: its watches can lose events"],
        ),
        (report(*THREE[:2], endpoint("c", clock=None)), []),
        (report(*THREE[:2], endpoint("c", clock={"ahead": 0.54, "within": 0.05})), []),
        (
            report(*THREE[:2], endpoint("c", clock={"ahead": 2.04, "within": 0.05})),
            ["the clock of c is 2.0 s ahead of this one's"],
        ),
        (
            report(*THREE[:2], endpoint("c", clock={"ahead": -2.0, "within": 0.05})),
            ["the clock of c is 2.0 s behind this one's"],
        ),
        (report(*THREE[:2], endpoint("c", leader="")), ["knows no leader"]),
        (report(*THREE[:2], endpoint("c", learner=True)), ["learner"]),
        (report(*THREE[:2], endpoint("c", errors=["NOSPACE"])), ["complains: NOSPACE"]),
        (report(*THREE[:2], endpoint("c", db_size=2 << 30)), ["2048 MiB"]),
        (report(*THREE[:2], endpoint("c", leader="2")), ["disagree"]),
        (report(THREE[0], *(endpoint(n, revision=5000) for n in "bc")), ["4995 revisions behind"]),
        (report(*THREE, lease={"error": "x"}), ["lease failed: x"]),
        (report(*THREE, lease={"round_trip": 2.0}), ["a lease takes 2.00 s"]),
        (report(*THREE, watch={"error": "x"}), ["the watch failed: x"]),
        (report(*THREE, watch={"put_to_event_max": 3.0}), ["lags: up to 3.00 s"]),
        (report(*THREE, registry={"error": "x"}), ["could not be read: x"]),
    ],
)
def test_findings(found, said) -> None:
    given = findings(found)
    assert len(given) == len(said), given
    for one, part in zip(given, said, strict=True):
        assert part in one


def test_findings_of_the_registry() -> None:
    given = findings(
        report(
            *THREE,
            registry={
                "origins": ["local", "west"],
                "malformed": ["k"],
                "stale_origins": ["east"],
                "clock_ahead": 3.0,
            },
        )
    )
    assert len(given) == 4

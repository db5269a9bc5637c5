"""``hastack discovery federate`` as a process between two stores that other processes use."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from rich.console import Console

from hastack.cli import _discovery_federate as command
from hastack.discovery import federation, memory
from hastack.discovery._layout import InstanceKey
from hastack.discovery._origin import OriginState

BOUND = 40.0


@pytest.fixture
def urls(tmp_path):
    return tuple(f"memory://{tmp_path}/{name}" for name in ("east", "west"))


@pytest.fixture
def start():
    """Starts ``hastack discovery federate ...``; it ends with the test."""
    started = []

    def go(*args):
        kept = {n: v for n, v in os.environ.items() if not n.startswith("HASTACK_")}
        one = subprocess.Popen(
            [sys.executable, "-m", "hastack", "discovery", "federate", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, "COLUMNS": "160"},
        )
        started.append(one)
        return one

    yield go
    for one in started:
        one.kill()
        one.communicate()


def key(area, number, origin="east"):
    return InstanceKey(area, origin, "default", "db", str(number)).to_bytes()


def on(url, work):
    async def main():
        store = memory.connect(url)
        try:
            async with asyncio.timeout(BOUND):
                return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(main())


async def _three(store):
    for number in range(3):
        await store.put(key("reg", number), b'{"address":"h:1"}')


def read_until(process, wanted):
    for text in process.stdout:
        if wanted(text):
            return text
    raise AssertionError(process.stderr.read())


def test_it_mirrors_reports_and_stops_cleanly(urls, start):
    east, west = urls

    async def main():
        # The stores are served by this process, which must stay while the other one uses them.
        source, destination = memory.connect(east), memory.connect(west)
        await _three(source)
        await destination.get("anything")
        process = start("--from", east, "--to", west, "--json")

        def follow():
            read_until(
                process,
                lambda text: (
                    json.loads(text)["kind"] == "OriginRelisted"
                    and json.loads(text)["reason"] == "first"
                ),
            )
            found = read_until(
                process,
                lambda text: (
                    (json.loads(text).get("mirrored"), json.loads(text).get("state")) == (3, "live")
                ),
            )
            process.send_signal(signal.SIGTERM)
            rest = [json.loads(text) for text in process.stdout]
            return json.loads(found), rest, process.wait(BOUND)

        status, rest, code = await asyncio.to_thread(follow)
        assert (status["origin"], status["puts"], status["phase"]) == ("east", 3, "forwarding")
        assert rest[-1]["phase"] == "stopped"
        assert code == 0
        assert (await destination.get(key("mir", 1))).value == b'{"address":"h:1"}'
        for store in (source, destination):
            await store.aclose()

    asyncio.run(asyncio.wait_for(main(), BOUND))


def test_lines_for_people(urls, start):
    async def main():
        source, destination = (memory.connect(url) for url in urls)
        await _three(source)
        await destination.get("anything")
        process = start("--from", urls[0], "--to", urls[1], "--origin", "east")

        def follow():
            listed = read_until(process, lambda text: "listed east" in text)
            assert "(first): 3 differences" in listed
            read_until(process, lambda text: "3 mirrored" in text)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            return process.wait(BOUND)

        assert await asyncio.to_thread(follow) == 0
        for store in (source, destination):
            await store.aclose()

    asyncio.run(asyncio.wait_for(main(), BOUND))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "redis://x", "--to", "memory://b"], "redis://x"),
        (["--from", "memory://a", "--to", "memory://b"], "nothing is registered"),
        (
            ["--from", "memory://a", "--to", "memory://b", "--origin", "x", "--rate", "much"],
            "rate",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(start, arguments, said):
    process = start(*arguments)
    out, err = process.communicate(timeout=BOUND)
    assert process.returncode == 2
    assert said in err
    assert "Traceback" not in err


def test_several_origins_must_be_chosen_from():
    async def main():
        store = memory.Store()
        await store.put("/hs/1/reg/odd", "x")
        for origin in ("east", "n/w"):
            await store.put(key("reg", 1, origin), b'{"address":"h:1"}')
        with pytest.raises(command.click.UsageError, match="east, n/w"):
            await command._only_origin(store)

    asyncio.run(main())


def test_the_table_and_the_sentences_say_it_all():
    status = federation.Status(
        origin="east",
        state=OriginState.STALE,
        phase="forwarding",
        frozen=True,
        held=7,
        thaws_in=12.0,
        refused=3,
        error="[source] gone",
    )
    show = command._Live()
    show._table(status)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(show._table(status))
    said = capture.get()
    for word in ("stale", "forwarding", "7 deletions held, thaws in 12 s", "3 beyond", "[source]"):
        assert word in said
    assert "frozen: 7" in command._summary(status)
    events = [
        federation.OriginChanged(origin="east", before=None, after=OriginState.STALE, silence=1.0),
        federation.OriginRelisted(origin="east", reason="gap", revision=5, changes=2, took=0.1),
        federation.EvictionFrozen(origin="east", missing=7, held=7, population=9, thaws_in=30.0),
        federation.EvictionThawed(origin="east", population=9),
        federation.ForwarderSuperseded(origin="east", writer="host:1"),
        federation.ForwarderFailed(origin="east", part="source", error=OSError("no"), retry_in=1.0),
    ]
    assert [command._sentence(each).split()[0] for each in events] == [
        *("east", "listed", "FROZEN:", "thawed:", "standing", "source:"),
    ]
    assert command._plain(events[0])["after"] == "stale"


def test_evicting_by_hand(urls):
    def evict(*args):
        return subprocess.run(
            [sys.executable, "-m", "hastack", "discovery", "evict", *args],
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )

    async def main():
        async with memory.connect(urls[0]) as source, memory.connect(urls[1]) as west:
            await _three(source)
            async with federation.Forwarder(source, west, origin="east") as forwarder:
                while forwarder.status().mirrored < 3:
                    await asyncio.sleep(0.01)
                done = await asyncio.to_thread(evict, "--in", urls[1], "--origin", "east", "revoke")
                assert done.returncode == 1
                assert "stop that one first" in done.stderr
            for eviction, said in (
                ("drain", "3 instances of east marked as draining"),
                ("forget", "3 instances of east revoked and forgotten"),
                ("forget", "0 instances of east revoked and forgotten"),
            ):
                done = await asyncio.to_thread(evict, "--in", urls[1], "--origin", "east", eviction)
                assert (done.stdout, done.stderr, done.returncode) == (f"{said}\n", "", 0)
            assert await west.get(key("mir", 1)) is None
        done = await asyncio.to_thread(evict, "--in", "http://x", "--origin", "east", "drain")
        assert done.returncode == 2

    asyncio.run(asyncio.wait_for(main(), BOUND))

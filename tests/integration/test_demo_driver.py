"""The open-loop generator against real sockets."""

import asyncio
import time
from collections import Counter

import pytest

from hastack.cli.demo._driver import Driver
from hastack.cli.demo._workload import Plan

PLAN = Plan(deadline=0.2, patience=0.4, duration=2.0)


def drive(answer, arrivals, plan=PLAN):
    """Run the driver against ``answer(writer, number)``; the driver and its connections."""

    async def main():
        connections = 0
        numbers = iter(range(10_000))
        tasks = set()

        async def serve(reader, writer):
            nonlocal connections
            connections += 1
            tasks.add(asyncio.current_task())
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    await answer(writer, next(numbers))
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        driver = Driver(server.sockets[0].getsockname()[1], plan)
        async with asyncio.timeout(30):
            await driver.run(arrivals, time.monotonic() + 0.05)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return driver, connections

    return asyncio.run(main())


def counts(driver):
    return Counter(sample.outcome for sample in driver.samples)


def reply(status, body=b"hello", extra=b""):
    async def answer(writer, _number):
        head = b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n" % (status, len(body))
        writer.write(head + extra + b"\r\n" + body)

    return answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (429, "shed"), (503, "shed"), (500, "failed"), (502, "failed"), (504, "failed")],
)
def test_statuses(status, outcome):
    driver, _ = drive(reply(status), [0.0, 0.01, 0.02])
    assert counts(driver) == {outcome: 3}
    assert [sample.due for sample in driver.samples] == [0.0, 0.01, 0.02]


def test_connections_are_kept_and_reused():
    _, connections = drive(reply(200), [number * 0.05 for number in range(10)])
    assert connections < 5  # one, unless this machine answers slower than it is asked


def test_a_connection_that_the_service_closes_is_not_reused():
    closing = reply(200, extra=b"Connection: close\r\n")
    driver, connections = drive(closing, [number * 0.02 for number in range(5)])
    assert connections == 5
    assert counts(driver)["ok"] == 5


def test_an_answer_in_pieces_is_put_together():
    async def dribble(writer, _number):
        for piece in (b"HTTP/1.1 200 OK\r\nconte", b"nt-length: 4\r\n\r", b"\nab", b"cd"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)

    driver, connections = drive(dribble, [0.0, 0.1])
    assert counts(driver) == {"ok": 2}
    assert connections == 1


def test_arrivals_do_not_wait_for_answers_and_latency_counts_from_arrival():
    arrived = []
    everybody = asyncio.Event()

    async def slow(writer, number):
        arrived.append(number)
        if len(arrived) == 20:
            everybody.set()
        await everybody.wait()  # in a row, the second would never come
        await asyncio.sleep(0.1)
        await reply(200)(writer, number)

    driver, connections = drive(slow, [0.0] * 20, Plan(deadline=20.0, patience=20.0, duration=2.0))
    assert connections == 20
    assert all(sample.latency >= 0.1 for sample in driver.samples)
    assert counts(driver) == {"ok": 20}


@pytest.mark.parametrize(
    ("delay", "status", "low", "high"),
    [(0.25, 200, 0.25, 0.4), (0.25, 504, 0.25, 0.4), (5.0, 200, 0.4, 0.4)],
    ids=["late success", "late error", "silence is cut off at the client's patience"],
)
def test_late(delay, status, low, high):
    async def slow(writer, number):
        await asyncio.sleep(delay)
        await reply(status)(writer, number)

    driver, _ = drive(slow, [0.0])
    assert counts(driver) == {"late": 1}
    assert low <= driver.samples[0].latency <= high


def test_a_connection_that_breaks_is_a_failure():
    async def hang_up(writer, _number):
        writer.transport.abort()

    driver, _ = drive(hang_up, [0.0, 0.01])
    assert counts(driver) == {"failed": 2}


def test_nobody_there_is_a_failure():
    async def main():
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        driver = Driver(port, PLAN)
        await driver.run([0.0], time.monotonic())
        return driver

    assert counts(asyncio.run(main())) == {"failed": 1}

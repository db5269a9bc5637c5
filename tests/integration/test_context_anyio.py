"""Contexts as AnyIO cancel scopes, on asyncio and on trio."""

from __future__ import annotations

import threading
import time

import pytest

from hastack import context
from hastack.errors import Cancelled, DeadlineExceeded, InvalidArgument
from hastack.testing import ManualClock

anyio = pytest.importorskip("anyio")
pytest.importorskip("trio")

from hastack.contrib.anyio import fail_after, scope, sleep  # noqa: E402


@pytest.fixture(params=["asyncio", "trio"])
def run(request):
    return lambda main: anyio.run(main, backend=request.param)


def test_deadline_raises_and_nothing_lingers(run):
    async def main():
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded), fail_after(0.05) as ctx:
            await anyio.sleep(30)
        assert 0.04 < time.monotonic() - start < 20.0
        assert ctx.done
        assert context.current() is context.background()
        await anyio.sleep(0)

    run(main)


def test_not_reached(run):
    async def main():
        with fail_after(30.0) as ctx:
            await anyio.sleep(0)
            assert context.current() is ctx
        assert "scope was left" in str(ctx.err())
        mine = context.with_cancel()
        with scope(mine):
            await anyio.sleep(0)
        assert not mine.done
        with fail_after(None) as ctx:
            assert ctx.deadline is None

    run(main)


def test_effective_deadline_is_visible(run):
    async def main():
        with scope(context.timeout(30.0)):
            left = anyio.current_effective_deadline() - anyio.current_time()
            assert 29.0 < left <= 30.0
            with fail_after(5.0):
                assert anyio.current_effective_deadline() - anyio.current_time() <= 5.0
        with scope():
            assert anyio.current_effective_deadline() == float("inf")

    run(main)


def test_cancel_from_a_thread(run):
    async def main():
        ctx = context.with_cancel()
        timer = threading.Timer(0.05, ctx.cancel, ("elsewhere",))
        timer.start()
        with pytest.raises(Cancelled, match="elsewhere"), scope(ctx):
            await anyio.sleep(30)
        timer.join()
        assert ctx._live is None

    run(main)


def test_cancelled_before_entry(run):
    async def main():
        ctx = context.with_cancel()
        ctx.cancel("early")
        with pytest.raises(Cancelled, match="early"), scope(ctx):
            await anyio.sleep(30)

    run(main)


def test_is_level_triggered(run):
    async def main():
        interrupts = 0
        with pytest.raises(DeadlineExceeded), fail_after(0.02):
            for _ in range(3):
                try:
                    await anyio.sleep(30)
                except anyio.get_cancelled_exc_class():
                    interrupts += 1
                    if interrupts == 3:
                        raise
        assert interrupts == 3

    run(main)


def test_respects_shields(run):
    async def main():
        finished = []
        with pytest.raises(DeadlineExceeded), fail_after(0.02):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.06)
                finished.append("shielded")
            await anyio.sleep(30)
            finished.append("never")
        assert finished == ["shielded"]

    run(main)


def test_the_outermost_ended_scope_raises(run):
    async def main():
        seen = []
        outer = context.with_cancel()
        with pytest.raises(Cancelled, match="drain"), scope(outer):
            try:
                with fail_after(30.0):
                    outer.cancel("drain")
                    await anyio.sleep(30)
            except Cancelled:
                seen.append("too early")
                raise
        assert seen == []
        with scope(context.with_cancel()) as outer:
            with pytest.raises(DeadlineExceeded), fail_after(0.02):
                await anyio.sleep(30)
            assert not outer.done

    run(main)


def test_anyio_scopes_inside_and_outside(run):
    async def main():
        with anyio.move_on_after(0.02) as moved, fail_after(30.0):
            await anyio.sleep(30)
        assert moved.cancelled_caught
        with fail_after(30.0), anyio.move_on_after(0.02) as moved:
            await anyio.sleep(30)
        assert moved.cancelled_caught
        with pytest.raises(DeadlineExceeded), anyio.fail_after(30.0), fail_after(0.02):
            await anyio.sleep(30)

    run(main)


def test_task_group_inside(run):
    async def main():
        ended = []

        async def child():
            try:
                await anyio.sleep(30)
            finally:
                ended.append(1)

        with pytest.raises(DeadlineExceeded), fail_after(0.05):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(child)
        assert ended == [1, 1, 1]

    run(main)


def test_errors_pass(run):
    async def main():
        with pytest.raises(ZeroDivisionError), fail_after(30.0):
            1 / 0  # noqa: B018

    run(main)


def test_one_entry(run):
    async def main():
        block = scope()
        with block, pytest.raises(InvalidArgument, match="entered before"), block:
            pass

    run(main)


def test_sleep(run):
    async def main():
        await sleep(0.0)
        with context.timeout(0.02), pytest.raises(DeadlineExceeded):
            await sleep(30)
        ctx = context.with_cancel()
        ctx.cancel("off")
        with pytest.raises(Cancelled, match="off"):
            await sleep(0.0, ctx=ctx)
        with pytest.raises(InvalidArgument, match="seconds"):
            await sleep(-1)

    run(main)


def test_another_clock_rings_itself(run):
    clock = ManualClock(5_000_000.0)

    async def main():
        ctx = context.timeout(30.0, parent=context.background(clock=clock))
        timer = threading.Timer(0.02, clock.advance, (31.0,))
        timer.start()
        with pytest.raises(DeadlineExceeded), scope(ctx):
            await anyio.sleep(30)
        timer.join()

    run(main)


def test_a_loop_that_is_gone_is_no_error(run):
    async def main():
        block = scope(ctx)
        block.__enter__()
        late.append(block._stop)
        block._using.__exit__(None, None, None)
        block._cancel_scope.__exit__(None, None, None)

    late = []
    ctx = context.with_cancel()
    run(main)
    assert ctx.cancel("late") is True

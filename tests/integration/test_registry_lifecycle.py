"""A registration follows the life of its service: a real process, a real SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

CHILD = """
    import asyncio, json, os, signal, socket, sys, time
    from hastack import discovery
    from hastack.lifecycle import Lifecycle, Phase

    how, lame_duck = sys.argv[1], float(sys.argv[2])
    told = []

    def tell(what):
        told.append(what)

    life = Lifecycle("orders", lame_duck=lame_duck, drain=10.0, stop=10.0)
    reg = discovery.connect("memory://life")
    life.on_phase(lambda phase: tell(phase.value))
    stop = reg.subscribe("orders", lambda found: tell(
        ["absent", "offered", "draining"][sum(1 + i.draining for i in found)]))
    listener = socket.create_server(("127.0.0.1", 0))

    def close():
        tell("listener closes")
        listener.close()

    life.add("http", start=lambda: tell("listener open"), drain=close)
    address = "127.0.0.1:%d" % listener.getsockname()[1]

    def ready(phase):
        if phase is Phase.SERVING:
            print("up", flush=True)

    life.on_phase(ready)

    async def follows():
        async with reg.register("orders", address, lifecycle=life, grace=0.0):
            await life.run_async()

    async def component():
        life.add(reg.register("orders", address, lifecycle=life, grace=0.0), depends_on=["http"])
        await life.run_async()

    def threads():
        life.add(reg.register("orders", address, grace=0.1), depends_on=["http"])
        life.run()

    if how == "threads":
        threads()
    else:
        asyncio.run({"follows": follows, "component": component}[how]())
    reg.close()
    print(json.dumps(told), flush=True)
"""


def told_by(how, lame_duck):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), how, str(lame_duck)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        # Offered a moment after that; the child says in which order things came.
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=40)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0
    return json.loads(out)


@pytest.mark.parametrize(
    ("how", "lame_duck"),
    [("follows", 1.5), ("component", 0.6), ("component", 0.0), ("threads", 0.0)],
)
def test_offered_while_it_serves_and_gone_before_the_listener_closes(how, lame_duck) -> None:
    told = told_by(how, lame_duck)
    assert told.index("listener open") < told.index("offered")
    if how != "threads":  # without lifecycle=, it is offered with the start of the component
        assert told.index("serving") < told.index("offered")
    gone = len(told) - 1 - told[::-1].index("absent")
    assert told.index("offered") < gone < told.index("listener closes")
    if lame_duck:
        assert told.index("lame_duck") < told.index("draining") < gone

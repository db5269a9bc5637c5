"""Processes that end without closing anything end quietly, and at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

BOUND = 30.0  # seconds; ends what hangs

PROGRAMS = {
    "a loop that has ended": "asyncio.run(client.put('k', 'v'))",
    "the blocking face": "client.sync.put('k', 'v')",
    "both": "asyncio.run(client.put('k', 'v')); client.sync.get('k'); asyncio.run(client.get('k'))",
    "a scan left in the middle": "client.sync.put('k', 'v'); scan = client.sync.scan(''); next(scan)",
    "a scan dropped inside of a loop": """
client.sync.put('k', 'v')
scan = client.sync.scan('')
next(scan)
async def drop():
    global scan
    del scan
asyncio.run(drop())
""",
    "a watch": "watch = client.sync.watch('k'); watch.__enter__(); next(watch)",
    "a lease": "lease = client.sync.lease(60); lease.__enter__()",
    "a thread inside of a call": """
import threading
def ask():
    try:
        while True:
            client.sync.get('k')
    except (RuntimeError, Cancelled):
        pass  # the interpreter exits, it is told
threading.Thread(target=ask, daemon=True).start()
client.sync.get('k')
""",
    "a call when the interpreter exits": """
import atexit
client.sync.put('k', 'v')
atexit.register(lambda: client.sync.put('k', 'w'))
""",
}


@pytest.mark.parametrize("shared_etcd", ["3.4"], indirect=True)
@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_hangs_and_nothing_is_said(shared_etcd, name):
    code = (
        "import asyncio, sys\nfrom hastack.discovery import etcd\nfrom hastack.errors import Cancelled\n"
        f"client = etcd.Client(sys.argv[1])\n{PROGRAMS[name]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, shared_etcd.endpoint],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

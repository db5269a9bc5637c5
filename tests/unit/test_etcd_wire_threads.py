"""The private pool is loaded once, whoever comes first."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, threading
from hastack.discovery.etcd import _wire
sys.setswitchinterval(1e-6)
begin = threading.Barrier(8)
pairs = []
def load():
    begin.wait()
    answer = _wire.response(_wire.RANGE)
    pairs.append((_wire.RangeRequest, answer, _wire.RequestOp(request_range=_wire.RangeRequest())))
threads = [threading.Thread(target=load) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(pairs) == 8, "a thread failed"
assert len({pair[:2] for pair in pairs}) == 1, "classes of two pools"
"""


def test_threads_that_come_at_once_use_the_same_classes():
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr

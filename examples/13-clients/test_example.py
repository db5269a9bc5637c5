"""The example does what it says."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_nobody_is_refused_and_everybody_is_answered():
    source = str(HERE.parents[1] / "src")
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [source, os.environ.get("PYTHONPATH")])
    )
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=55,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "with_httpx: 6 of 6 answered",
        "with_requests: 6 of 6 answered",
        "with_aiohttp: 6 of 6 answered",
        "refused by the server: 0",
        "with_async_httpx: 6 of 6 answered",
        "the trial would have refused some: True",
    ]

"""The example does what it says."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_west_finds_the_instances_of_east_also_while_it_cannot_see_it():
    source = str(HERE.parents[1] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    both = "east-1:8080 of east, west-1:8080 of west"
    assert done.stdout.splitlines() == [
        f"both are there: {both}",
        f"east is out of reach, its instances stay: {both}",
        f"east is back: {both}",
        "the one in east has left: west-1:8080 of west",
    ]

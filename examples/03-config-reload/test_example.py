"""The example does what it says."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_it_resizes_and_survives_a_mistake():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SHOP_")}
    source = str(HERE.parents[1] / "src")
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [source, os.environ.get("PYTHONPATH")])
    )
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "started with Checkout(timeout=2.0, token=Secret('***'))",
        "now 20 with 1 under way",
        "kept 20 because of:",
        "    hastack.ratelimit.orders.limit: 0.0 is out of range (accepted: >= 1) [/shop.toml:10]",
        "now 30 with 1 under way",
    ]

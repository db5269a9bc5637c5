"""What `import hastack` costs, in fresh interpreters; the budget is 30 ms."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

BUDGET_MS = 30.0
ROUNDS = 15

MEASURE = """
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import {module}
took = (time.perf_counter() - start) * 1e3
new = set(sys.modules) - before
print(json.dumps([took, len(new), "asyncio" in new]))
"""


def measure(module: str) -> tuple[float, int, bool]:
    """Median milliseconds, modules loaded, and whether asyncio was among them."""
    rounds = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", MEASURE.format(module=module)]
        rounds.append(json.loads(subprocess.check_output(command, text=True)))
    return statistics.median(r[0] for r in rounds), rounds[-1][1], rounds[-1][2]


def main() -> None:
    """Print the table, hastack's modules beside two well-known ones."""
    print(f"\n### Import, milliseconds (budget of `import hastack`: {BUDGET_MS:.0f})\n")
    print(f"Python {sys.version.split()[0]}; median of {ROUNDS} fresh interpreters.\n")
    print("| | ms | modules | asyncio |")
    print("|---|---:|---:|---|")
    for module in ("hastack", "hastack.ratelimit", "hastack.context", "attrs", "asyncio"):
        took, count, loop = measure(module)
        print(f"| `import {module}` | {took:.1f} | {count} | {'yes' if loop else 'no'} |")


if __name__ == "__main__":
    main()

"""Run bench/bench_*.py on the pure build and on the compiled one.

usage: bench.py [word ...]     only the benchmarks whose name contains one of the words

Both builds are installed the same way, in ``.venv-bench-pure`` and ``.venv-bench-compiled``; the
peers come from the ``bench`` dependency group.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bootstrap import ROOT, need_debian, say


def main() -> None:
    """Set both environments up and run one benchmark after the other, never two at once."""
    need_debian(["gcc"])
    builds = {"pure": {}, "compiled": {"HASTACK_COMPILE": "1"}}
    if not shutil.which("gcc"):
        del builds["compiled"]
    words = sys.argv[1:] or [""]
    scripts = sorted((ROOT / "bench").glob("bench_*.py"))
    scripts = [path for path in scripts if any(word in path.name for word in words)]
    failed = []
    for build, variables in builds.items():
        venv = f".venv-bench-{build}"
        command = [sys.executable, "scripts/bootstrap.py", "--venv", venv, "--no-editable"]
        environment = {**os.environ, **variables}
        subprocess.run(
            [*command, "--extras", "all", "--groups", "bench,test"],
            cwd=ROOT,
            env=environment,
            check=True,
        )
        for path in scripts:
            print(f"\n## {path.stem}, {build}", flush=True)
            done = subprocess.run([ROOT / venv / "bin/python", path], cwd=ROOT, check=False)
            if done.returncode:
                failed.append(f"{path.stem} ({build})")
    if failed:
        say(f"failed: {', '.join(failed)}")
        raise SystemExit(1)


if __name__ == "__main__":
    main()

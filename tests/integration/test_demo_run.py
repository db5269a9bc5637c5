"""``hastack demo`` end to end: real processes, real sockets, a short load."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

# A runner in the background of a shell ignores SIGINT, and its children with it.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from hastack.cli import main; main()"
)
COMMAND = [sys.executable, "-c", PROGRAM, "demo"]
SOURCE = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
}


@contextmanager
def command(*arguments):
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments):
    """The command to its end: exit status, standard output and standard error."""
    with command(*arguments) as process:
        out, err = process.communicate(timeout=45)
    return process.returncode, out, err


def children(process):
    """Process ids of the children of ``process``."""
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listing.exists():
        pytest.skip("needs /proc/<pid>/task/<tid>/children")
    return [int(pid) for pid in listing.read_text().split()]


def wait_for(check, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def ended(pids):
    return not any(map(alive, pids))


def test_two_strategies_end_to_end(tmp_path):
    status, out, err = run(
        *("--duration", 3, "--strategy", "unprotected", "--strategy", "hastack"),
        *("--out", tmp_path / "new", "--json", "--seed", 5),
    )
    assert status == 0, err
    printed = json.loads(out)
    assert printed == json.loads((tmp_path / "new" / "demo.json").read_text())
    assert [each["name"] for each in printed["strategies"]] == ["unprotected", "hastack"]
    sent = {each["score"]["sent"] for each in printed["strategies"]}
    assert len(sent) == 1, "every strategy gets the same arrivals"
    assert sent.pop() == pytest.approx(320 * 3, rel=0.15)
    for each in printed["strategies"]:
        check(printed["plan"], each)
    html = (tmp_path / "new" / "demo.html").read_text()
    assert len(re.findall(r'aria-label="(?:Outcomes|Latency|Limit|Breaker) ', html)) == 8
    assert "Traceback" not in err


def check(plan, strategy):
    """The numbers of one strategy agree with each other and with what must be so."""
    numbers, series = strategy["score"], strategy["series"]
    outcomes = ("ok", "late", "failed", "shed")
    assert numbers["sent"] == sum(numbers[name] for name in outcomes)
    width = plan["duration"] / len(series["at"])
    for name in outcomes:
        assert sum(series[name]) * width == pytest.approx(numbers[name], abs=0.01)
    assert numbers["goodput"] == pytest.approx(numbers["ok"] / plan["duration"])
    assert 0.0 < numbers["p50"] <= numbers["p99"] <= plan["patience"]
    assert numbers["goodput"] < plan["capacity"] * 1.3
    assert numbers["ok"] > 0
    accuracy = numbers["accuracy"]
    assert accuracy["false_open"] + accuracy["missed_open"] <= accuracy["judged"]
    assert [at for at, _, _ in strategy["ticks"]] == pytest.approx(
        [number * plan["tick"] for number in range(30)]
    )
    if strategy["name"] == "unprotected":
        assert numbers["shed"] == 0
        assert accuracy["false_open"] == 0
        assert accuracy["missed_open"] > 0
    else:
        assert numbers["shed"] > 0


def test_a_log_is_replayed_and_people_get_a_table(tmp_path):
    log = tmp_path / "access.log"
    log.write_text(
        "".join(
            f'127.0.0.1 - - [10/Oct/2026:13:55:{second:02d} +0000] "GET / HTTP/1.1" 200 1\n'
            for second in (0, 1, 1, 1, 2, 9)
        )
    )
    status, out, err = run(
        *("--trace", log, "--duration", 2, "--rate", 100, "--strategy", "unprotected"),
        *("--out", tmp_path),
    )
    assert status == 0, err
    assert "goodput" in out
    assert "Unprotected" in out
    found = json.loads((tmp_path / "demo.json").read_text())
    assert "6 requests over 10 s" in found["source"]
    (only,) = found["strategies"]
    assert only["score"]["sent"] == 200
    # Nothing arrives between the log's third and ninth second.
    quiet = [
        rate
        for at, rate in zip(only["series"]["at"], only["series"]["ok"], strict=True)
        if 0.7 < at < 1.7
    ]
    assert sum(quiet) == 0.0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_the_command(sign, tmp_path):
    with command("--strategy", "unprotected", "--out", tmp_path) as process:
        pids = wait_for(lambda: len(found := children(process)) == 3 and found)
        time.sleep(0.5)  # into the load
        process.send_signal(sign)
        _, err = process.communicate(timeout=30)
    wait_for(lambda: ended(pids))
    assert "Traceback" not in err
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert "Stopped." in err
        assert not list(tmp_path.iterdir()), "half a measurement is no report"


def test_a_service_that_dies_under_load_ends_the_command_in_one_line(tmp_path):
    with command("--strategy", "unprotected", "--out", tmp_path) as process:
        pids = wait_for(lambda: len(found := children(process)) == 3 and found)
        time.sleep(1.0)
        os.kill(sorted(pids)[1], signal.SIGKILL)  # after the dependency, before the load
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "service (unprotected) ended early" in err
    assert "Traceback" not in err
    wait_for(lambda: ended(pids))


def test_serve_keeps_the_service_up_until_ctrl_c(tmp_path):
    arguments = ("--strategy", "hastack", "--duration", 2, "--serve", "--out", tmp_path)
    with command(*arguments) as process:
        assert process.stdout is not None
        base = None
        for line in process.stdout:
            found = re.search(r"(http://127\.0\.0\.1:\d+)/order until Ctrl-C", line)
            if found:
                base = found.group(1)
                break
        assert base is not None
        assert get(f"{base}/order") == "ordered\n"
        assert "pass" in get(f"{base}/healthz")
        ready = get(f"{base}/readyz?verbose")
        assert "dependency: ok" in ready
        assert "breaker: " in ready
        assert 'hastack_lifecycle_phase{phase="serving"} 1' in get(f"{base}/metrics")
        pids = children(process)
        assert len(pids) == 2, "the load has ended"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err
    wait_for(lambda: ended(pids))


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.status == 200
        return answer.read().decode()


def test_a_service_that_cannot_start_is_said_without_a_traceback(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = run("--strategy", "unprotected", "--port", port, "--out", tmp_path)
    assert status == 1
    assert "service (unprotected) ended early" in err
    assert "in use" in err
    assert "Traceback" not in err

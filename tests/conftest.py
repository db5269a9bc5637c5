"""Rules for the whole suite: how hypothesis runs, and which skips CI accepts."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Read by mypy and pyright, never run; imported by tests, some of it only in processes of its own.
collect_ignore = ["typing", "support"]

# No rule about wall time: a slow machine is not a failing test. `timeout` ends what hangs.
SETTINGS = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("ci", derandomize=True, **SETTINGS)
settings.register_profile("dev", **SETTINGS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if CI else "dev"))


class SkipGate:
    """In CI, a skip that is not on the list fails the run: tests must not vanish unseen."""

    def __init__(self) -> None:
        lines = (HERE / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
        self.allowed = [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
        self.unexpected: list[str] = []

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        if not any(fnmatch(report.nodeid, pattern) for pattern in self.allowed):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("skips that tests/allowed_skips.txt does not allow")
            for line in self.unexpected:
                terminalreporter.line(line, red=True)


def pytest_configure(config: pytest.Config) -> None:
    if CI:
        config.pluginmanager.register(SkipGate(), "hastack-skip-gate")

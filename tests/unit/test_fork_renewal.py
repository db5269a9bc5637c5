"""In a forked child everybody is renewed, whoever fails at it."""

import pytest

from hastack._core import _fork


def test_one_that_fails_keeps_nobody_from_being_renewed(monkeypatch):
    renewed = []

    class Member:
        def __init__(self, fails):
            self.fails = fails

        def _after_fork(self):
            renewed.append(self)
            if self.fails:
                raise OSError("no directory")

    members = [Member(number % 2) for number in range(6)]
    monkeypatch.setattr(_fork, "_members", members)
    with pytest.raises(OSError, match="no directory"):
        _fork._renew()
    assert renewed == members

"""What events become."""

from __future__ import annotations

import enum

import attrs
import pytest

from hastack import events
from hastack.observe._event_mapping import ERROR, INFO, WARN, event_name, mapped
from hastack.ratelimit._breaker import BreakerState
from hastack.ratelimit._breaker_events import BreakerChanged
from hastack.ratelimit._limit_events import RequestRejected


class State(enum.Enum):
    OPEN = "open"


@attrs.frozen(kw_only=True)
class UploadFailed(events.Event):
    name: str
    took: float
    error: Exception
    where: object = None
    state: State = State.OPEN
    count: int = 3


def test_a_failure_with_a_length_is_a_span():
    found = mapped(UploadFailed(name="cv", took=0.5, error=OSError("no " * 400), where=None))
    assert (found.name, found.severity, found.took, found.failed) == (
        "hastack.upload_failed", ERROR, 0.5, True,
    )  # fmt: skip
    assert found.counted == {"name": "cv"}
    assert found.attributes["hastack.error"].startswith("OSError: no no")
    assert len(found.attributes["hastack.error"]) == 500
    assert found.attributes["hastack.state"] == "open"
    assert "hastack.where" not in found.attributes
    assert found.attributes["hastack.count"] == 3


def test_other_objects_become_text():
    found = mapped(UploadFailed(name="cv", took=True, error=OSError(), where=("a", 1)))
    assert found.attributes["hastack.where"] == "('a', 1)"


def test_rejections_are_counted_without_their_keys():
    found = mapped(
        RequestRejected(name="api", key="ada", cost=1.0, reason="limited", retry_after=None)
    )
    assert found.severity is None
    assert found.took is None
    assert found.counted == {"name": "api", "reason": "limited"}


@pytest.mark.parametrize(
    ("new", "severity"), [(BreakerState.OPEN, WARN), (BreakerState.CLOSED, INFO)]
)
def test_an_opening_breaker_is_a_warning(new, severity):
    found = mapped(
        BreakerChanged(
            name="db", old=BreakerState.HALF_OPEN, new=new, reason="x", generation=1, calls=1,
            failures=1, slow=0,
        )
    )  # fmt: skip
    assert found.severity == severity
    assert found.counted == {"name": "db", "old": "half-open", "new": new.value, "reason": "x"}


def test_names():
    assert event_name("BreakerChanged") == "hastack.breaker_changed"
    assert event_name("LeaseLost2Way") == "hastack.lease_lost2_way"

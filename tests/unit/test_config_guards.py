"""Settings of guards say what the guards' constructors say."""

import inspect
from typing import get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack import config, discovery, health, lifecycle, ratelimit
from hastack._config._types import fields_of, kinds_of
from hastack.errors import ConfigError, InvalidArgument
from hastack.ratelimit._from_config import _CLASSES
from hastack.testing import ManualClock

BY_KIND = {kind: cls for cls in get_args(config.GuardConfig) for kind in kinds_of(cls)}
RENAMED = {"rate": "limit"}  # windows call it so
ELSEWHERE = {"kind", "budget_ratio", "budget_min_per_second", "shadow"}


def test_every_kind_has_a_guard():
    assert set(BY_KIND) == set(_CLASSES)


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_names_and_defaults_are_those_of_the_constructor(kind):
    parameters = inspect.signature(getattr(ratelimit, _CLASSES[kind])).parameters
    only = {"burst", "queue", "slot", "max_waiting"}
    for field in fields_of(BY_KIND[kind]):
        if field.key in ELSEWHERE:
            continue
        name = field.key if field.key in parameters else RENAMED.get(field.key, field.key)
        if name not in parameters:
            assert field.key in only, field.key  # and the settings refuse it for this kind
            continue
        default = field.attribute.default
        if default is not attrs.NOTHING and default is not None:
            assert parameters[name].default == default, field.key


def test_lifecycle_takes_its_settings_as_options():
    given = attrs.asdict(config.LifecycleConfig())
    parameters = inspect.signature(lifecycle.Lifecycle).parameters
    assert {name: parameters[name].default for name in given} == given
    lifecycle.Lifecycle(**given)


def test_health_takes_its_settings_as_options():
    given = attrs.asdict(config.HealthConfig())
    parameters = inspect.signature(health.Health).parameters
    assert {name: parameters[name].default for name in given} == given
    health.Health(**given)


def test_discovery_takes_its_settings_as_options():
    given = attrs.asdict(config.DiscoveryConfig(), recurse=False)
    parameters = inspect.signature(discovery.connect).parameters
    defaults = {name: parameters[name].default for name in given}
    assert {**defaults, "url": config.Secret(defaults["url"])} == given
    discovery.connect(**given)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"rate": 5}, "TokenBucket"),
        ({"rate": "5/min", "burst": 9, "max_wait": "2s"}, "TokenBucket"),
        ({"kind": "leaky-bucket", "rate": 5, "queue": 3, "max_wait": "context"}, "LeakyBucket"),
        ({"kind": "fixed-window", "rate": "5/min"}, "FixedWindow"),
        ({"kind": "sliding-window-log", "rate": "5/min"}, "SlidingWindowLog"),
        ({"kind": "sliding-window-counter", "rate": "5/min", "slot": "1s"}, "SlidingWindowCounter"),
        ({"kind": "concurrency-limit", "limit": 3, "max_wait": "context"}, "ConcurrencyLimit"),
        ({"kind": "adaptive-limit"}, "AdaptiveLimit"),
        ({"kind": "circuit-breaker", "window_calls": 50}, "CircuitBreaker"),
        ({"kind": "retry"}, "Retry"),
        ({"kind": "timeout", "seconds": 1}, "Timeout"),
    ],
)
def test_building(given, kind):
    loaded = config.load(env=None, override={"ratelimit": {"it": given}})
    guard = ratelimit.from_config(loaded.ratelimit["it"], name="it")
    assert type(guard) is getattr(ratelimit, kind)
    assert guard.name == "it"


def test_what_only_code_can_say():
    clock = ManualClock()
    entry = config.LimiterConfig(rate="1/s", burst=1.0)
    api = ratelimit.from_config(entry, name="api", key=lambda user: user, clock=clock)
    assert api.try_acquire(key="a")
    assert not api.try_acquire(key="a")
    assert api.try_acquire(key="b")
    clock.advance(1.0)
    assert api.try_acquire(key="a")


def test_retry_budgets():
    entry = config.RetryConfig(budget_ratio=0.1, budget_min_per_second=3.0)
    assert ratelimit.from_config(entry, name="r").budget.remaining == 30
    assert ratelimit.from_config(config.RetryConfig(), name="r").budget is None
    shared = ratelimit.RetryBudget()
    assert ratelimit.from_config(entry, name="r", budget=shared).budget is shared


@pytest.mark.parametrize("wrong", [None, 5, config.Config(), {"kind": "retry"}])
def test_what_is_no_guard(wrong):
    with pytest.raises(InvalidArgument, match="settings"):
        ratelimit.from_config(wrong, name="x")


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "fixed-window", "rate": 5, "burst": 3},
        {"rate": 5, "queue": 3},
        {"rate": 5, "slot": 3},
        {"kind": "leaky-bucket", "rate": 5, "max_waiting": 3},
    ],
)
def test_settings_that_another_algorithm_knows(given):
    with pytest.raises(ConfigError) as caught:
        config.load(env=None, override={"ratelimit": {"it": given}})
    [mistake] = caught.value.exceptions
    assert mistake.path == "ratelimit.it"
    assert "for kind = " in mistake.problem


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(sorted(BY_KIND)))
def test_what_config_accepts_the_guard_accepts(data, kind):
    """Each numeric setting on its lower bound, if it has one, or on its default."""
    chosen = {"kind": kind}
    for field in fields_of(BY_KIND[kind]):
        bounds = field.attribute.validator
        least = getattr(bounds, "minimum", None)
        if field.required:
            chosen[field.key] = 5
        elif least is not None and data.draw(st.booleans()):
            chosen[field.key] = least
    try:
        loaded = config.load(env=None, override={"ratelimit": {"it": chosen}})
    except ConfigError as error:
        paths = [mistake.path for mistake in error.exceptions]
    else:
        paths = ["ratelimit.it"]
        ratelimit.from_config(loaded.ratelimit["it"], name="it")
    # Only rules between fields may refuse values that are each in range.
    assert paths == ["ratelimit.it"]

"""When requests arrive and what the oracle says."""

import json

import pytest

from hastack.cli.demo._workload import Plan, poisson, replay
from hastack.errors import InvalidArgument

PLAN = Plan(duration=9.0)


def test_capacity_is_workers_over_service_time():
    assert Plan(workers=8, service_time=0.05).capacity == pytest.approx(160.0)


def test_brownout_is_the_middle_third():
    assert PLAN.brownout == pytest.approx((3.0, 6.0))
    assert [PLAN.sick(at) for at in (0.0, 2.999, 3.0, 5.999, 6.0, 8.9)] == [
        *(False, False, True, True, False, False)
    ]


def test_a_second_after_each_change_is_not_judged():
    assert [PLAN.judged(at) for at in (2.9, 3.0, 3.95, 4.0, 5.9, 6.0, 6.95, 7.0)] == [
        *(True, False, False, True, True, False, False, True)
    ]


@pytest.mark.parametrize(("duration", "beat"), [(3.0, 1 / 3), (9.0, 1.0), (90.0, 1.0)])
def test_time_constants_shrink_with_short_runs_only(duration, beat):
    assert Plan(duration=duration).beat == pytest.approx(beat)


def test_a_plan_survives_json():
    assert Plan(**json.loads(json.dumps(PLAN.to_dict()))) == PLAN


def test_poisson_depends_on_the_seed_alone():
    assert poisson(320.0, 9.0, 1) == poisson(320.0, 9.0, 1)
    assert poisson(320.0, 9.0, 1) != poisson(320.0, 9.0, 2)


def test_poisson_has_the_mean_and_the_spread_of_poisson():
    times = poisson(300.0, 100.0, 7)
    assert len(times) == pytest.approx(30_000, rel=0.02)
    per_second = [0] * 100
    for at in times:
        per_second[int(at)] += 1
    mean = sum(per_second) / 100
    variance = sum((count - mean) ** 2 for count in per_second) / 99
    assert variance == pytest.approx(mean, rel=0.5)  # equal for Poisson; 0 for a metronome


def test_replay_keeps_the_shape_of_the_log():
    # Ten seconds: nothing happens but in the third and the eighth, which is twice as busy.
    stamps = [102.0] * 100 + [107.0] * 200 + [100.0, 109.0]
    times = replay(stamps, 1.0, rate=300.0, duration=5.0, seed=1)
    assert len(times) == 1500
    early = sum(1.0 <= at < 1.5 for at in times)
    late = sum(3.5 <= at < 4.0 for at in times)
    assert early + late == pytest.approx(1490, abs=10)
    assert late == pytest.approx(2 * early, rel=0.05)


def test_replay_thins_a_log_that_is_too_long():
    stamps = [float(second) for second in range(10) for _ in range(100)]
    times = replay(stamps, 1.0, rate=20.0, duration=5.0, seed=1)
    assert len(times) == 100
    assert len(set(times)) == 100


def test_replay_repeats_a_log_that_is_too_short_and_spreads_each_repetition():
    times = replay([5.0], 1.0, rate=10.0, duration=2.0, seed=1)
    assert len(times) == 20
    assert len(set(times)) == 20
    assert min(times) < 0.5
    assert max(times) > 1.5


def test_replay_of_nothing_is_refused():
    with pytest.raises(InvalidArgument, match="stamps"):
        replay([], 1.0, rate=10.0, duration=2.0, seed=1)

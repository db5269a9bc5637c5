"""Verdicts from memory and the time."""

from __future__ import annotations

import pytest

from hastack._health_http import PATHS, Reply, question, refused, render, wants_json
from hastack._health_metrics import Family, exposition, flags, states
from hastack._health_verdict import CheckResult, CheckState, Pulse, Status, Verdict, judge


def result(name="db", ok=True, critical=True, **more):
    return CheckResult(name=name, ok=ok, critical=critical, **more)


class TestHysteresis:
    def test_the_first_result_decides(self):
        for ok in (True, False):
            state = CheckState("db", failures=3, successes=3)
            assert state.good is None
            assert state.record(0.0, ok) is True
            assert state.good is ok

    def test_it_takes_n_failures_in_a_row_to_turn_bad_and_m_to_turn_good(self):
        state = CheckState("db", failures=3, successes=2)
        state.record(0.0, True)
        turned = [state.record(1.0, ok) for ok in (False, False, True, False, False, False)]
        assert turned == [False, False, False, False, False, True]
        assert state.good is False
        turned = [state.record(2.0, ok) for ok in (True, False, True, True)]
        assert turned == [False, False, False, True]
        assert state.good is True

    def test_a_result_is_fresh_for_its_ttl_and_not_when_the_clock_went_back(self):
        state = CheckState("db", ttl=5.0)
        assert not state.fresh(0.0)
        state.record(10.0, True)
        assert state.fresh(10.0)
        assert state.fresh(14.99)
        assert not state.fresh(15.0)
        assert not state.fresh(9.0)

    def test_what_is_shown(self):
        state = CheckState("db", critical=False)
        assert state.result(5.0).age is None
        state.record(1.0, False, "refused", 0.2)
        state.record(2.0, False, "refused", 0.3)
        shown = state.result(5.0)
        assert (shown.ok, shown.critical, shown.detail) == (False, False, "refused")
        assert (shown.age, shown.took, shown.streak) == (3.0, 0.3, 2)


class TestJudge:
    def test_all_good(self):
        verdict = judge([result(), result("cache")])
        assert verdict.status is Status.PASS
        assert verdict
        assert verdict.failing == ()

    def test_a_bad_critical_check_fails_and_is_named(self):
        verdict = judge([result(ok=False, detail="refused"), result("cache")])
        assert verdict.status is Status.FAIL
        assert not verdict
        assert verdict.failing == ("db: refused",)

    def test_a_bad_uncritical_check_degrades(self):
        verdict = judge([result(), result("cache", ok=False, critical=False)])
        assert verdict.status is Status.DEGRADED
        assert verdict
        assert verdict.failing == ("cache: failed",)

    def test_not_checked_yet_is_not_good(self):
        assert judge([result(ok=None)]).failing == ("db: not checked yet",)
        assert not judge([result(ok=None)])
        assert judge([result(ok=None, critical=False)]).status is Status.DEGRADED

    def test_other_reasons_fail(self):
        verdict = judge([result()], ["lifecycle: draining"])
        assert verdict.status is Status.FAIL
        assert verdict.failing == ("lifecycle: draining",)


def test_a_pulse_speaks_against_life_only_after_its_age():
    pulse = Pulse("loop", 2.0, 10.0)
    assert pulse.against(12.0) is None
    assert pulse.against(12.5) == "loop: no sign of life for 2.50 s (limit 2 s)"


def test_a_beat_is_told_to_the_mirror():
    told = []
    pulse = Pulse("loop", 2.0, 0.0)
    pulse.beat(5.0)
    pulse.mirror = told.append
    pulse.beat(6.0)
    assert (pulse.last, told) == (6.0, [6.0])


class TestHttp:
    @pytest.mark.parametrize(
        ("path", "root", "asked"),
        [
            ("/readyz", "", "ready"),
            ("/healthz", "/", "live"),
            ("/api/readyz", "/api", "ready"),
            ("/readyz", "/api", "ready"),  # hosts that strip the mount point
            ("/api/readyz", "", None),
            ("/apireadyz", "/api", None),
            ("/readyz/", "", None),
        ],
    )
    def test_paths(self, path, root, asked):
        assert question(path, root, PATHS) == asked

    def test_text_names_the_failing_check(self):
        verdict = judge([result(ok=False, detail="refused"), result("cache")])
        reply = render("ready", verdict)
        assert reply.status == 503
        assert reply.body == b"[-] db: refused\nready: fail\n"
        assert dict(reply.headers)["content-length"] == str(len(reply.body))
        assert dict(reply.headers)["cache-control"] == "no-store"

    def test_verbose_lists_the_good_ones_too(self):
        checks = [result(detail="5 idle", age=1.0, took=0.002), result("mq", age=2.0), result("x")]
        for query in ("verbose", "verbose=1", "a=b&verbose"):
            assert render("ready", judge(checks), query=query).body == (
                b"[+] db: 5 idle (1.0 s ago, took 2.0 ms)\n[+] mq: ok (2.0 s ago)\n[+] x: ok\n"
                b"ready: pass\n"
            )
        for query in ("", "verbose=0", "verbose=false", "&".join(["a"] * 50)):
            assert render("ready", judge(checks), query=query).body == b"ready: pass\n"

    def test_json_when_asked(self):
        import json

        verdict = judge([result(ok=False, age=1.0, took=0.1, detail="no"), result("x", ok=None)])
        reply = render("ready", verdict, accept="text/html, application/json;q=0.9")
        assert reply.content_type == "application/json"
        assert json.loads(reply.body) == {
            "status": "fail",
            "failing": ["db: no", "x: not checked yet"],
        }
        body = json.loads(render("ready", verdict, accept="application/json", query="verbose").body)
        assert [each["name"] for each in body["checks"]] == ["db", "x"]
        assert body["checks"][0]["took"] == 0.1
        assert body["checks"][1]["age"] is None
        assert not wants_json("*/*")
        assert wants_json("application/health+json")

    def test_degraded_is_200(self):
        verdict = Verdict(status=Status.DEGRADED, failing=("cache: slow",))
        assert render("ready", verdict).status == 200

    def test_methods(self):
        assert refused("GET") is refused("HEAD") is None
        reply = refused("POST")
        assert isinstance(reply, Reply)
        assert reply.status == 405
        assert ("allow", "GET, HEAD") in reply.headers


class TestExposition:
    def test_openmetrics_text(self):
        text = exposition(
            [
                Family("a", "counter", "A.", (((("x", 'q"\\\n'),), 3.0), ((), 0.5))),
                states("b", "B.", "phase", "two", ["one", "two"]),
                flags("c", "C.", "check", {"db": True}),
            ]
        )
        assert text == (
            "# TYPE a counter\n# HELP a A.\n"
            'a_total{x="q\\"\\\\\\n"} 3\na_total 0.5\n'
            "# TYPE b gauge\n# HELP b B.\n"
            'b{phase="one"} 0\nb{phase="two"} 1\n'
            '# TYPE c gauge\n# HELP c C.\nc{check="db"} 1\n'
            "# EOF\n"
        )

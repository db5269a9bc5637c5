"""Options of ``hastack demo``: what is accepted, and what people read when it is not."""

import importlib

import click
import pytest
from click.testing import CliRunner

from hastack.cli import _demo
from hastack.cli.demo._strategies import STRATEGIES, by_name
from hastack.cli.demo._workload import Plan


@pytest.mark.parametrize(
    ("text", "rate"), [("2x", 320.0), ("0.5X", 80.0), ("350", 350.0), (" 1.5x ", 240.0)]
)
def test_rates(text, rate):
    assert _demo._rate(None, None, text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "x", "fast", "0", "-2x", "nan", "inf", "7x", "1001"])
def test_rates_out_of_range_name_the_range(text):
    with pytest.raises(click.BadParameter, match="1 to 1000 requests per second"):
        _demo._rate(None, None, text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "zero"],
        ["--duration", "1"],
        ["--strategy", "hope"],
        ["--trace", "/no/such/file"],
        ["--port", "70000"],
        ["--out", "/dev/null/out"],
    ],
)
def test_bad_options_are_usage_errors(arguments):
    result = CliRunner().invoke(_demo.demo, arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_help_names_every_option():
    text = CliRunner().invoke(_demo.demo, ["--help"]).output
    for option in ("rate", "trace", "duration", "seed", "strategy", "out", "json", "serve"):
        assert f"--{option}" in text


def test_a_log_without_times_is_one_line(tmp_path):
    log = tmp_path / "access.log"
    log.write_text("no time here\n")
    result = CliRunner().invoke(_demo.demo, ["--trace", str(log), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "an access log with times like" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_without_the_web_extra_the_pip_line_is_printed(missing, monkeypatch):
    real = importlib.import_module

    def find(name, package=None):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=missing)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", find)
    result = CliRunner().invoke(_demo.demo, [])
    assert result.exit_code == 2
    assert "pip install 'hastack[web]'" in result.output


def test_the_option_offers_exactly_the_strategies():
    assert tuple(strategy.name for strategy in STRATEGIES) == _demo._NAMES


@pytest.mark.parametrize("name", _demo._NAMES)
def test_every_strategy_can_be_built_and_looked_into(name):
    strategy = by_name(name)
    guarded = strategy.build(Plan())
    assert guarded.state() == "closed"
    limit = guarded.limit()
    assert (limit is None) is (strategy.unit == "")
    assert limit is None or limit > 0.0
    assert strategy.summary.endswith(".")


def test_static_baselines_are_set_to_the_nominal_capacity():
    plan = Plan()
    for name in ("fixed-window", "token-bucket"):
        assert by_name(name).build(plan).limit() == pytest.approx(plan.capacity)

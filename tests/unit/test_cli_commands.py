"""The ``hastack`` command: what it prints and how it exits."""

import ast
import json
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import attrs
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner

import hastack
from hastack import cli, config
from hastack.cli import _config
from hastack.cli._app import _COMMANDS, app


@attrs.frozen(kw_only=True)
class Shop:
    """A shop."""

    password: config.Secret = config.Secret("")  # noqa: RUF009  # immutable
    note: str | None = None
    hastack: config.Config = attrs.field(factory=config.Config)


@pytest.fixture
def run(monkeypatch):
    for name in list(__import__("os").environ):
        if name.startswith("HASTACK_"):
            monkeypatch.delenv(name)
    # click 8.2 always keeps the two streams apart; before, it had to be told.
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
    return lambda *args, **kw: CliRunner(**apart).invoke(app, [str(a) for a in args], **kw)


@pytest.fixture
def shop(monkeypatch):
    module = type(sys)("shop_settings")
    module.Shop, module.number = Shop, 5
    monkeypatch.setitem(sys.modules, "shop_settings", module)
    return "shop_settings:Shop"


def test_help_lists_every_command_and_loads_none(run, monkeypatch):
    for module, _, _ in _COMMANDS.values():
        monkeypatch.delitem(sys.modules, f"hastack.cli.{module}", raising=False)
    result = run("--help")
    assert result.exit_code == 0
    for name, (module, _, summary) in _COMMANDS.items():
        assert name in result.output
        assert summary.split()[0] in result.output
        assert f"hastack.cli.{module}" not in sys.modules
    assert run("-h").output == result.output


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("hastack ")


def test_unknown_command(run):
    result = run("nonsense")
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_check_finds_nothing(run, tmp_path):
    path = tmp_path / "ok.toml"
    path.write_text("[health]\nfailures = 3\n")
    result = run("config", "check", path, env={"HASTACK_NONSENSE": "1"})
    assert (result.exit_code, result.output) == (0, f"{path}: no mistakes\n")
    assert json.loads(run("config", "check", path, "--format", "json").output) == []


def test_check_prints_every_mistake_with_its_place(run, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[health]\nfailures = 0\nfailuers = 1\n[ratelimit.x]\n")
    result = run("config", "check", path, "--env", env={"HASTACK_HEALTH__CACHE_TTL": "x"})
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    guess = f"{path}:3: health.failuers: unknown key; did you mean 'failures'?"
    assert any(line.startswith(guess) for line in lines)
    assert f"{path}:2: health.failures: 0 is out of range (accepted: >= 1)" in lines
    assert any(line.startswith(f"{path}:4: ratelimit.x.rate: is required") for line in lines)
    assert any(
        line.startswith("HASTACK_HEALTH__CACHE_TTL: health.cache_ttl: 'x' is not") for line in lines
    )
    assert result.stderr == "4 mistakes\n"
    found = json.loads(run("config", "check", path, "--format", "json").output)
    assert [m["path"] for m in found] == ["health.failures", "health.failuers", "ratelimit.x.rate"]
    assert set(found[0]) == {"path", "problem", "accepted", "source"}


def test_check_wants_something_to_check(run, tmp_path):
    assert run("config", "check").exit_code == 2
    assert run("config", "check", tmp_path / "missing.toml").exit_code == 1
    assert run("config", "check", "--env", "--env-prefix", "X").exit_code == 2


def test_show_masks_and_names_sources(run, shop, tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text('password = "hunter2"\n[hastack.health]\nfailures = 3\n')
    env = {"SHOP_HASTACK__HEALTH__CACHE_TTL": "2s"}
    args = ("config", "show", path, "--into", shop, "--env-prefix", "SHOP_")
    result = run(*args, env=env)
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["password", "=", '"***"', "#", f"{path}:1"] in lines
    assert ["note", "=", "none", "#", "default"] in lines
    assert ["hastack.health.failures", "=", "3", "#", f"{path}:3"] in lines
    assert ["hastack.health.cache_ttl", "=", "2.0", "#", "SHOP_HASTACK__HEALTH__CACHE_TTL"] in lines
    rows = json.loads(run(*args, "--format", "json", env=env).output)
    assert {"path": "password", "value": "***", "source": f"{path}:1"} in rows


def test_show_of_something_wrong(run):
    result = run("config", "show", env={"HASTACK_NONSENSE": "1"})
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "HASTACK_NONSENSE: nonsense: unknown key" in result.stderr
    assert "1 mistake\n" in result.stderr
    assert run("config", "show", "--no-env", env={"HASTACK_NONSENSE": "1"}).exit_code == 0


def test_schema(run, shop):
    found = json.loads(run("config", "schema").output)
    assert found["title"] == "Config"
    assert json.loads(run("config", "schema", "--into", shop).output)["title"] == "Shop"


@pytest.mark.parametrize(
    "into", ["nonsense", "no_such_module:X", "shop_settings:Nothing", "shop_settings:number", ":x"]
)
def test_bad_settings_classes(run, shop, into):
    result = run("config", "schema", "--into", into)
    assert result.exit_code == 2
    assert "--into" in result.stderr


@pytest.mark.parametrize("source", ["raise RuntimeError('no database')", "def ("])
def test_a_settings_module_that_fails(run, tmp_path, monkeypatch, source):
    (tmp_path / "failing_settings.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("config", "schema", "--into", "failing_settings:Shop")
    assert result.exit_code == 2
    assert re.search(
        r"cannot be imported: (RuntimeError: no database|SyntaxError: )", result.stderr
    )


def test_mistakes_come_in_the_order_of_the_files(run, tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text("[health]\nx = 1\n[ratelimit.a]\nrate = 0\n")
    second.write_text("[lifecycle]\ny = 1\n[health]\nz = 1\n")
    result = run("config", "check", first, second, "--env", env={"HASTACK_HEALTH__FAILURES": "0"})
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [
        f"{first}:2", f"{first}:4", f"{second}:2", f"{second}:4", "HASTACK_HEALTH__FAILURES",
    ]  # fmt: skip


def test_missing_cli_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "hastack.cli._app")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "hastack: click is not installed. Install it with: pip install 'hastack[cli]'\n"
    )


def test_missing_extra_of_one_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delitem(sys.modules, "hastack.cli._doctor", raising=False)
    monkeypatch.setattr(sys, "argv", ["hastack", "doctor"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "pip install 'hastack[cli]'" in capsys.readouterr().err


def test_config_knows_the_tables_of_every_package(tmp_path):
    """In a process of its own: here, other tests have imported everything."""
    file = tmp_path / "hastack.toml"
    file.write_text("[observe]\nservise = 'shop'\n[observe.queue]\nbatch = 5\n")
    code = f"""
import sys
from hastack.cli._app import app
before = set(sys.modules)
try:
    app(["config", "check", {str(file)!r}])
finally:
    third = {{name.partition(".")[0] for name in set(sys.modules) - before}}
    print("opentelemetry" in third or "google" in third or "cramjam" in third)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"{file}:2: observe.servise: unknown key; did you mean 'service'?" in done.stdout
    assert done.stdout.endswith("\nFalse\n"), done
    assert done.stderr == "1 mistake\n"


def test_the_command_knows_of_every_section():
    found = set()
    for path in Path(hastack.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in tree.body if isinstance(node, ast.Assign)]
        if any(ast.unparse(node.value).startswith("section(") for node in calls):
            parts = path.relative_to(Path(hastack.__file__).parent).parts[:-1]
            found.add(".".join(("hastack", *parts)))
    assert found == set(_config.WITH_SECTIONS)


def test_features_without_cffi_say_so_once(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cffi", None)
    monkeypatch.setattr(sys, "argv", ["hastack", "ebpf", "features"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "hastack: cffi is not installed. Install it with: pip install 'hastack[ebpf]'\n"
    )

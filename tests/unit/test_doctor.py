"""``hastack doctor``: what it finds, how it says it, and how it exits."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from inspect import signature
from pathlib import Path

import attrs
import pytest
from jsonschema import Draft202012Validator

pytest.importorskip("click")
pytest.importorskip("rich")

from click.testing import CliRunner
from rich.console import Console

from hastack import config
from hastack.cli import _installed
from hastack.cli._app import app
from hastack.cli._doctor import _SECTIONS
from hastack.cli._installed import Need, declared, module_of
from hastack.cli.doctor import _clocks, _extras, _hazards, _kernel, _limits, _software
from hastack.cli.doctor._cgroups import cpu_quota, memory_limit, process_limit
from hastack.cli.doctor._finding import SCHEMA, Finding, document, worst
from hastack.cli.doctor._looking import Looking
from hastack.cli.doctor._table import print_section, print_summary
from hastack.ebpf.features import Feature

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {k: v for k, v in PROJECT["optional-dependencies"].items() if k != "all"}
LOCAL = ("python", "extras", "acceleration", "kernel", "clocks", "limits", "hazards", "config")


@pytest.fixture
def run(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("HASTACK_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # click 8.2 always keeps the two streams apart; before, it had to be told.
    apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}

    def call(*args, **options):
        return CliRunner(**apart).invoke(app, ["doctor", *map(str, args)], **options)

    return call


@attrs.frozen(kw_only=True)
class Shop:
    """A shop whose settings hold hastack's."""

    name: str = "shop"
    stack: config.Config = attrs.field(factory=config.Config)


def only(findings, name):
    [found] = [each for each in findings if each.name == name]
    return found


# The command ------------------------------------------------------------------------------


def test_what_programs_get_is_what_the_schema_says(run):
    Draft202012Validator.check_schema(SCHEMA)
    result = run("--json")
    assert result.exit_code == (1 if '"status": "broken"' in result.stdout else 0)
    found = json.loads(result.stdout)
    Draft202012Validator(SCHEMA).validate(found)
    assert json.loads(run("--schema").stdout) == SCHEMA
    sections = [each["section"] for each in found["findings"]]
    assert list(dict.fromkeys(sections)) == list(_SECTIONS)
    assert found["counts"]["ok"] == sum(each["status"] == "ok" for each in found["findings"])
    extras = {each["name"]: each for each in found["findings"] if each["section"] == "extras"}
    assert set(extras) == set(EXTRAS)
    assert extras["cli"]["status"] == "ok"
    assert set(extras["cli"]["facts"]["packages"]) == {"click", "rich"}


def test_people_get_the_same(run):
    text = run("python", "clocks", "config").stdout
    for word in ("interpreter", "event loop", "monotonic", "config", "none in environment"):
        assert word in text
    assert "extras" not in text


def test_sections_and_lines_are_chosen_by_name(run):
    found = json.loads(run("--json", "extras.cli", "python").stdout)["findings"]
    assert {each["section"] for each in found} == {"extras", "python"}
    assert [each["name"] for each in found if each["section"] == "extras"] == ["cli"]
    wrong = run("extra")
    assert wrong.exit_code == 2
    assert "no section 'extra'; there are python, extras" in wrong.stderr
    wrong = run("extras.clii")
    assert wrong.exit_code == 2
    assert "nothing was found that is called 'extras.clii'" in wrong.stderr


@pytest.mark.parametrize(
    ("status", "notes", "strict", "code"),
    [
        ("ok", (), (), 0),
        ("ok", (), ("--strict",), 0),
        ("ok", ("slow",), (), 0),
        ("ok", ("slow",), ("--strict",), 1),
        ("missing", (), (), 0),
        ("missing", (), ("--strict",), 1),
        ("broken", (), (), 1),
    ],
)
def test_exit_status(run, monkeypatch, status, notes, strict, code):
    found = Finding(section="python", name="x", status=status, says="it", notes=notes)
    monkeypatch.setitem(_SECTIONS, "python", lambda looking: iter([found]))
    assert run("python", *strict).exit_code == code


def test_mistakes_are_said_as_config_check_says_them(run, tmp_path):
    (tmp_path / "hastack.toml").write_text("[health]\nfailuers = 1\n[ratelimit.a]\nrate = 0\n")
    result = run("--json", "config", "backends")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["findings"]
    said = [each["says"] for each in found if each["section"] == "config"]
    checked = CliRunner().invoke(app, ["config", "check", "hastack.toml"]).output.splitlines()
    assert said == checked[:2]
    assert "hastack.toml:2: health.failuers: unknown key" in said[0]
    [asked] = [each for each in found if each["section"] == "backends"]
    assert asked["fix"] == "hastack config check --env hastack.toml"


def test_settings_of_an_application_and_of_the_environment(run, tmp_path, monkeypatch):
    module = type(sys)("doctor_shop")
    module.Shop = Shop
    monkeypatch.setitem(sys.modules, "doctor_shop", module)
    path = tmp_path / "shop.toml"
    path.write_text("name = 'x'\n[stack.discovery]\nurl = 'memory://'\n")
    options = ("--into", "doctor_shop:Shop", "--env-prefix", "SHOP_", "--config", path)
    result = run(*options, "config", "backends")
    assert result.exit_code == 0
    assert "nothing to reach" in result.stdout
    result = run(*options, "config", env={"SHOP_STACK__HEALTH__FAILURES": "0"})
    assert result.exit_code == 1
    assert "SHOP_STACK__HEALTH__FAILURES" in result.stdout
    assert run("config", "--config", tmp_path / "none.toml").exit_code == 1


def test_a_settings_class_without_hastack_has_no_backends():
    @attrs.frozen
    class Bare:
        name: str = "x"

    looking = Looking(into=Bare)
    assert looking.settings is None
    assert looking.mistakes == ()


# The table --------------------------------------------------------------------------------

FINDINGS = [
    Finding(section="kernel", name="bpf", says="made a map"),
    Finding(
        section="kernel",
        name="a name that is quite long",
        status="broken",
        says="a sentence that needs more than one line of a terminal: " + "word " * 20,
        fix="pip install --force-reinstall one two three four five six seven eight nine ten eleven",
        notes=("a note that goes on and on " * 5, "short"),
    ),
    Finding(section="kernel", name="libbpf", status="missing", says="x" * 300, fix="fix it"),
]


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 120, 200])
def test_the_table_fits_and_commands_stay_whole(width):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: PTH123,SIM115
    with console.file:
        print_section(console, "kernel", FINDINGS)
        print_summary(console, FINDINGS)
    lines = console.export_text().splitlines()
    for line in lines:
        whole = line.strip() in {each.fix for each in FINDINGS}
        unbroken = len(line.split()[-1]) > width // 2 if line.split() else False
        assert len(line) <= max(width, 44) or whole or unbroken, line
    assert {"fix it", FINDINGS[1].fix} <= {line.strip() for line in lines}
    words = " ".join(" ".join(lines).split())
    assert "1 ok, 1 missing, 1 broken, 2 worth a look (!)" in words
    assert FINDINGS[1].says.split()[-1] in words
    assert not any(line.endswith(" ") for line in lines if width > 60), lines


def test_the_worst_counts():
    assert worst([]) == "ok"
    assert worst(FINDINGS) == "broken"
    assert worst(FINDINGS[::2]) == "missing"
    Draft202012Validator(SCHEMA).validate(document(FINDINGS, None))


# Extras -----------------------------------------------------------------------------------


def found_extras(monkeypatch, needs, versions, errors=None, tested=None):
    parsed = tuple(Need.of(each) for each in needs)
    monkeypatch.setattr(_extras, "declared", lambda: {"web": parsed})
    monkeypatch.setattr(_extras, "installed", versions.get)
    monkeypatch.setattr(_extras, "import_errors", lambda modules: errors or {})
    monkeypatch.setattr(_extras, "TESTED", tested or {})
    [found] = _extras.extras(Looking())
    return found


NEEDS = ("grpcio>=1.80", "rich>=13.7")


def test_an_extra_that_is_there(monkeypatch):
    found = found_extras(monkeypatch, NEEDS, {"grpcio": "1.80.0", "rich": "14.0"})
    assert (found.status, found.says, found.fix) == ("ok", "grpcio 1.80.0, rich 14.0", None)


def test_an_extra_that_is_not_there(monkeypatch):
    found = found_extras(monkeypatch, NEEDS, {"rich": "14.0"})
    assert found.status == "missing"
    assert found.says == "not installed: grpcio (rich 14.0 is there)"
    assert found.fix == "pip install 'hastack[web]'"


def test_an_extra_that_is_too_old(monkeypatch):
    found = found_extras(monkeypatch, NEEDS, {"grpcio": "1.9.3", "rich": "14.0"})
    assert found.status == "broken"
    assert found.says == "too old: grpcio 1.9.3 (needs grpcio>=1.80)"
    assert found.fix == "pip install --upgrade 'hastack[web]'"


def test_what_came_for_another_reason_may_be_old(monkeypatch):
    assert found_extras(monkeypatch, NEEDS, {"grpcio": "1.9.3"}).status == "missing"


def test_an_extra_that_cannot_be_imported(monkeypatch):
    versions = {"grpcio": "1.80.0", "rich": "14.0"}
    found = found_extras(monkeypatch, NEEDS, versions, {"grpc": "ImportError: no libssl"})
    assert found.status == "broken"
    assert found.says == "cannot be imported: grpcio: ImportError: no libssl"
    assert found.fix == "pip install --force-reinstall grpcio"


def test_an_extra_newer_than_what_was_tested(monkeypatch):
    tested = {"grpcio": ("1.80.0", "1.81.0")}
    found = found_extras(monkeypatch, NEEDS[:1], {"grpcio": "1.90.0"}, tested=tested)
    assert found.status == "ok"
    assert found.notes == ("grpcio 1.90.0 is newer than what was tested (1.80.0 to 1.81.0)",)
    assert found.facts["tested"] == {"grpcio": ["1.80.0", "1.81.0"]}


def test_imports_are_tried_apart_so_that_a_crash_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "doctor_good.py").write_text("print('[chatter')")
    (tmp_path / "doctor_bad.py").write_text("raise OSError('no such library')")
    (tmp_path / "doctor_crash.py").write_text("import os; os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ["doctor_good", "doctor_crash", "doctor_bad", "doctor_good", "doctor_crash"]
    assert _extras.import_errors(names) == {
        "doctor_bad": "OSError: no such library",
        "doctor_crash": "the interpreter ends while it is imported",
    }
    assert _extras.import_errors([]) == {}


def test_an_import_that_hangs_ends(tmp_path, monkeypatch):
    (tmp_path / "doctor_hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(_extras, "_PATIENCE", 1.0)
    assert set(_extras.import_errors(["doctor_hangs"])) == {"doctor_hangs"}


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("1.9.3", "1.10", True),
        ("1.10", "1.10.0", False),
        ("2.0rc1", "2.0", False),
        ("26.1.0", "23.2", False),
        ("0.50b0", "0.50", False),
        ("1.0+local.7", "1.0.1", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, than, older):
    assert _extras.is_older(version, than) is older


def test_every_extra_of_the_project_is_known_and_its_modules_are_found():
    """A new package whose module is called otherwise wants a line in _installed._MODULES."""
    known = declared()
    assert set(known) == set(EXTRAS)
    for extra, lines in EXTRAS.items():
        spelled = {each.partition(";")[0].strip() for each in lines if Need.of(each)}
        assert {need.spelled for need in known[extra]} == spelled
        for need in known[extra]:
            pytest.importorskip(module_of(need.package))


def test_extras_come_from_metadata_where_there_are_no_sources(monkeypatch):
    lines = [
        "attrs>=23.2",
        'click>=8.1; extra == "cli"',
        "rich>=13.7 ; extra == 'cli'",
        'backports.zstd>=1.0; python_version < "3.14" and extra == "logs"',
        "nothing; (python_version < '3.0') and extra == 'logs'",
        'hastack[cli,web]; extra == "all"',
    ]
    monkeypatch.setattr(_installed, "_checkout", lambda: None)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    zstd = {"logs": ("backports.zstd>=1.0",)} if sys.version_info < (3, 14) else {}
    found = {name: tuple(each.spelled for each in needs) for name, needs in declared().items()}
    assert found == {"cli": ("click>=8.1", "rich>=13.7"), **zstd}
    monkeypatch.setattr("importlib.metadata.requires", lambda name: None)
    assert declared() == {}

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", missing)
    assert declared() == {}


def test_requirements_without_a_bound():
    assert Need.of("click") == Need("click", "click", "0")
    assert Need.of("x>=1; python_version >= '3.0'").minimum == "1"
    assert Need.of("x>=1; python_version < '3.0'") is None
    assert Need.of("x>=1; sys_platform == 'linux'").package == "x"


# Acceleration, kernel, clocks, hazards ------------------------------------------------------


def test_what_is_compiled(monkeypatch):
    monkeypatch.delenv("HASTACK_PURE", raising=False)
    monkeypatch.setattr("hastack._core._accel.report", lambda: {"a": "pure", "b": "compiled"})
    assert only(_software.acceleration(Looking()), "mypyc").says.startswith("1 of 2 modules")
    monkeypatch.setattr("hastack._core._accel.report", lambda: {"a": "pure"})
    found = only(_software.acceleration(Looking()), "mypyc")
    assert found.status == "missing"
    assert found.fix.startswith("HASTACK_COMPILE=1 pip install")
    monkeypatch.setenv("HASTACK_PURE", "1")
    found = only(_software.acceleration(Looking()), "mypyc")
    assert found.fix == "unset HASTACK_PURE"


def test_the_extension_for_ring_buffers(monkeypatch):
    monkeypatch.setattr("hastack.ebpf._ringbuf.order_of_memory", lambda: object())
    assert only(_software.acceleration(Looking()), "ring buffers").status == "ok"
    monkeypatch.setattr("hastack.ebpf._ringbuf.order_of_memory", lambda: None)
    monkeypatch.setattr(_software, "find_spec", lambda name: None)
    assert only(_software.acceleration(Looking()), "ring buffers").status == "missing"

    def broken(name):
        raise ImportError("undefined symbol")

    monkeypatch.setattr(_software, "find_spec", lambda name: True)
    monkeypatch.setattr(_software, "import_module", broken)
    found = only(_software.acceleration(Looking()), "ring buffers")
    assert (found.status, "undefined symbol" in found.says) == ("broken", True)


def test_without_rights_for_bpf_only_what_can_be_mended_is_listed(monkeypatch):
    monkeypatch.setattr(
        "hastack.ebpf.features.survey",
        lambda: (
            Feature("libbpf", True, "v1.1"),
            Feature("bpf", False, "EPERM"),
            Feature("link:tcx", False, "EPERM"),
            Feature("map:hash", False, "EPERM"),
        ),
    )
    found = list(_kernel.kernel(Looking()))
    names = [each.name for each in found]
    assert names == ["SO_REUSEPORT", "IPv6", "unix sockets", "libbpf", "bpf"]
    assert found[-1].fix.startswith("sudo setcap cap_bpf")
    assert sys.executable in found[-1].fix


def test_without_cffi_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cffi", None)
    found = only(_kernel.kernel(Looking()), "ebpf")
    assert (found.status, found.fix) == ("missing", "pip install 'hastack[ebpf]'")


def test_a_socket_that_cannot_be_had_is_missing():
    def fails():
        raise OSError(97, "Address family not supported by protocol")

    found = _kernel._tried("IPv6", "listening on ::1", fails)
    assert (found.status, "not supported" in found.says) == ("missing", True)


def test_a_clock_that_stands_still_does_not_hold_the_doctor():
    assert _clocks.smallest_step(lambda: 5.0, samples=2) == 0.0


def test_a_coarse_clock_is_worth_a_look():
    readings = iter(n * 0.016 for n in range(10_000))
    assert "16 ms" in _clocks._clock("monotonic", "monotonic", lambda: next(readings)).notes[0]


@pytest.mark.parametrize(
    ("ahead", "status", "notes"), [(0.1, "ok", 0), (-0.9, "ok", 1), (30.0, "broken", 1)]
)
def test_clocks_that_are_apart(ahead, status, notes):
    found = _clocks._skew("10.0.0.1:2379", {"ahead": ahead, "within": 0.05})
    assert (found.status, len(found.notes)) == (status, notes)
    assert ("ahead of" if ahead > 0 else "behind") in found.says
    assert bool(found.fix) == bool(notes)


def test_a_slow_clock_source_says_what_to_type(monkeypatch, tmp_path):
    (tmp_path / "current_clocksource").write_text("hpet\n")
    (tmp_path / "available_clocksource").write_text("tsc hpet acpi_pm\n")
    monkeypatch.setattr(_clocks, "_SOURCE", tmp_path)
    [found] = _clocks._source()
    assert found.fix == f"echo tsc | sudo tee {tmp_path}/current_clocksource"
    monkeypatch.setattr(_clocks, "_SOURCE", tmp_path / "none")
    assert list(_clocks._source()) == []


def test_few_open_files_say_what_to_type(monkeypatch):
    monkeypatch.setattr(_limits, "_limit", lambda number: (1024, 20000))
    found = _limits._files()
    assert found.fix == "ulimit -n 20000"
    assert found.notes
    monkeypatch.setattr(_limits, "_limit", lambda number: (1024, 1024))
    assert _limits._files().fix is None
    monkeypatch.setattr(_limits, "_limit", lambda number: (None, None))
    assert (_limits._files().says, _limits._files().notes) == ("no limit, at most no limit", ())


def test_an_old_kernel_charges_maps_to_locked_memory(monkeypatch):
    monkeypatch.setattr(_limits, "_limit", lambda number: (8 << 20, None))
    monkeypatch.setattr(_limits, "_release", lambda: (5, 10))
    assert _limits._locked().fix == "ulimit -l unlimited"
    monkeypatch.setattr(_limits, "_release", lambda: (5, 11))
    assert _limits._locked().fix is None


def test_grpc_and_its_hooks(monkeypatch):
    monkeypatch.setattr(_hazards, "grpc_has_fork_hooks", lambda: True)
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    assert _hazards._grpc().fix == "unset GRPC_ENABLE_FORK_SUPPORT"
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT")
    assert _hazards._grpc().notes == ()


def test_packages_that_overwrite_each_other(monkeypatch):
    monkeypatch.setattr(_hazards, "installed", lambda name: "1.0")
    assert _hazards._overwritten().status == "broken"
    monkeypatch.setattr(_hazards, "installed", {"opentelemetry-proto": "1.0"}.get)
    assert _hazards._overwritten().status == "ok"


def test_switches_of_the_interpreter(monkeypatch):
    for name in _hazards._DEBUG:
        monkeypatch.delenv(name, raising=False)
    assert _hazards._switches().notes == ()
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    assert _hazards._switches().fix == "unset PYTHONASYNCIODEBUG"


def test_protobuf_in_python_is_slow(monkeypatch):
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    found = _hazards._protobuf()
    assert found.facts == {"implementation": "python"}
    assert found.fix == "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    monkeypatch.delenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION")
    assert _hazards._protobuf().fix is None


def test_threads_of_a_fresh_interpreter(monkeypatch):
    [found] = _hazards._threads()
    assert found.facts["threads"] >= 1
    monkeypatch.setattr(_hazards, "_COUNT", "print(3)")
    [found] = _hazards._threads()
    assert found.notes
    monkeypatch.setattr(_hazards, "_COUNT", "raise OSError")
    assert list(_hazards._threads()) == []


# Control groups ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "max 100000"}, None),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "/sys/fs/cgroup/a/cpu.max": "200000 100000",
            },
            2.0,
        ),
        (
            {
                "/proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/docker/x\n",
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "25000\n",
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.25,
        ),
    ],
)
def test_the_cpu_quota_of_the_cgroup(files, quota):
    assert cpu_quota(files.get) == quota


@pytest.mark.parametrize(
    ("files", "memory", "processes"),
    [
        ({}, None, None),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/memory.max": "max\n",
                "/sys/fs/cgroup/a/memory.max": "1048576\n",
                "/sys/fs/cgroup/a/b/pids.max": "100\n",
                "/sys/fs/cgroup/a/pids.max": "max\n",
            },
            1048576,
            100,
        ),
        (
            {
                "/proc/self/cgroup": "4:memory:/x\n8:pids:/x\n",
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "4096\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "/sys/fs/cgroup/pids/x/pids.max": "max\n",
            },
            4096,
            None,
        ),
    ],
)
def test_the_memory_and_the_processes_of_the_cgroup(files, memory, processes):
    assert memory_limit(files.get) == memory
    assert process_limit(files.get) == processes

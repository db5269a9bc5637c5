"""Loading: precedence, types, and every mistake at once with its place."""

import datetime as dt
import enum
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from hastack import config
from hastack._config import _settings
from hastack.errors import ConfigError, InvalidArgument


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen(kw_only=True)
class Inner:
    n: int = config.setting(1, minimum=0, maximum=10)
    name: str = "inner"


@attrs.frozen(kw_only=True)
class Kinds:
    flag: bool = False
    whole: int = 0
    real: float = 0.0
    text: str = ""
    wait: config.Seconds = 0.0
    size: config.Bytes = 0
    rate: config.Rate = 1.0
    maybe: int | None = 5
    maybe_text: str | None = None
    mixed: int | str = 0
    pick: Literal["a", "b", 3] = "a"
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    path: Path = Path()
    day: dt.date = dt.date(2000, 1, 1)
    moment: dt.datetime = dt.datetime(2000, 1, 1)  # noqa: DTZ001  # naive as TOML's local ones
    clock_time: dt.time = dt.time(0)
    span: dt.timedelta = dt.timedelta(0)
    items: list[int] = attrs.field(factory=list)
    names: tuple[str, ...] = ()
    seq: Sequence[float] = ()
    group: frozenset[str] = frozenset()
    table: dict[str, int] = attrs.field(factory=dict)
    frozen_table: Mapping[str, Inner] = attrs.field(factory=dict)
    inner: Inner = attrs.field(factory=Inner)
    inners: list[Inner] = attrs.field(factory=list)
    anything: Any = None


@attrs.frozen
class Plain:
    required: int
    _private: str = "x"
    checked: int = attrs.field(default=1, validator=attrs.validators.gt(0))
    shouted: str = attrs.field(default="x", converter=str.upper)
    hidden: int = attrs.field(default=7, init=False)


def mistakes(*sources, **kwargs):
    kwargs.setdefault("env", None)
    with pytest.raises(ConfigError) as caught:
        config.load(*sources, **kwargs)
    return [(m.path, m.problem, m.accepted, m.source) for m in caught.value.exceptions]


def write(folder, text, name="a.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_alone():
    loaded = config.load(env={})
    # What other tests have imported may have sections of its own.
    assert attrs.evolve(loaded, sections={}) == config.Config()
    assert config.load(env={}).lifecycle.lame_duck is None


def test_precedence(tmp_path):
    first = write(tmp_path, "[health]\ncache_ttl = 1\ncheck_timeout = 1\nfailures = 4\n")
    second = write(tmp_path, '[health]\ncache_ttl = "2s"\ncheck_timeout = 2\n', "b.toml")
    env = {"HASTACK_HEALTH__CACHE_TTL": "3s", "OTHER": "x"}
    loaded = config.load(first, second, env=env).health
    assert (loaded.failures, loaded.check_timeout, loaded.cache_ttl) == (4, 2.0, 3.0)
    loaded = config.load(first, second, env=env, override={"health": {"cache_ttl": 4}}).health
    assert (loaded.failures, loaded.check_timeout, loaded.cache_ttl) == (4, 2.0, 4.0)


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("HASTACK_RATELIMIT__DEFAULT__RATE", "100/s")
    limiter = config.load().ratelimit["default"]
    assert limiter == config.LimiterConfig(rate="100/s")


def test_the_tree_is_frozen(tmp_path):
    loaded = config.load(env={"HASTACK_RATELIMIT__A__RATE": "5"})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        loaded.health.cache_ttl = 2.0
    with pytest.raises(TypeError):
        loaded.ratelimit["b"] = None


TYPED = """
flag = true
whole = 5
real = 2
text = "t"
wait = "250ms"
size = "1KiB"
rate = "5/min"
maybe = "none"
maybe_text = "none"
mixed = "m"
pick = 3
colour = "blue"
level = 2
path = "/tmp/x"
day = 2024-02-03
moment = 2024-02-03T04:05:06
clock_time = 04:05:06
span = "2h"
items = [1, 2]
names = ["a"]
seq = [1, 2.5]
group = ["g"]
anything = {deep = [1]}
inners = [{n = 2}, {name = "x"}]
[table]
k = 1
[frozen_table.x]
n = 3
[inner]
n = 4
"""

EXPECTED = Kinds(
    flag=True, whole=5, real=2.0, text="t", wait=0.25, size=1024, rate="5/min", maybe=None,
    maybe_text="none", mixed="m", pick=3, colour=Colour.BLUE, level=Level.HIGH,
    path=Path("/tmp/x"), day=dt.date(2024, 2, 3),
    moment=dt.datetime(2024, 2, 3, 4, 5, 6), clock_time=dt.time(4, 5, 6),  # noqa: DTZ001
    span=dt.timedelta(hours=2), items=[1, 2], names=("a",), seq=(1.0, 2.5), group=frozenset("g"),
    table={"k": 1}, frozen_table={"x": Inner(n=3)}, inner=Inner(n=4),
    inners=[Inner(n=2), Inner(name="x")], anything={"deep": [1]},
)  # fmt: skip


def test_every_type_from_toml(tmp_path):
    assert config.load(write(tmp_path, TYPED), into=Kinds, env=None) == EXPECTED


def test_every_type_from_the_environment():
    env = {
        "K_FLAG": "True", "K_WHOLE": "5", "K_REAL": "2", "K_TEXT": "t", "K_WAIT": "250ms",
        "K_SIZE": "1024", "K_RATE": "5/min", "K_MAYBE": "none", "K_MAYBE_TEXT": "none",
        "K_MIXED": "m", "K_PICK": "3", "K_COLOUR": "blue", "K_LEVEL": "2", "K_PATH": "/tmp/x",
        "K_DAY": "2024-02-03", "K_MOMENT": "2024-02-03T04:05:06", "K_CLOCK_TIME": "04:05:06",
        "K_SPAN": "2h", "K_ITEMS": "1, 2", "K_NAMES": '["a"]', "K_SEQ": "1,2.5", "K_GROUP": "g",
        "K_TABLE__K": "1", "K_FROZEN_TABLE__X__N": "3", "K_INNER__N": "4",
        "K_ANYTHING": "free", "K_INNERS": '[{n = 2}, {name = "x"}]',
    }  # fmt: skip
    loaded = config.load(into=Kinds, env=env, env_prefix="K_")
    assert loaded == attrs.evolve(EXPECTED, anything="free")
    assert all(type(name) is str for name in (loaded.text, loaded.mixed, loaded.anything))
    assert config.load(into=Kinds, env={"K_ITEMS": ""}, env_prefix="K_").items == []
    nested = config.load(into=Kinds, env={"K_ANYTHING__A__B": "1"}, env_prefix="K_").anything
    assert nested == {"a": {"b": "1"}}
    assert type(nested["a"]["b"]) is str


def test_enum_members_are_members():
    loaded = config.load(into=Kinds, env=None, override={"level": 2})
    assert loaded.level is Level.HIGH


def test_values_of_the_right_type_pass_as_they_are():
    given = attrs.asdict(EXPECTED, recurse=False)
    assert config.load(into=Kinds, env=None, override=given) == EXPECTED


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("flag = 1", "expected a boolean, got 1"),
        ('flag = "true"', "expected a boolean, got 'true'"),
        ("whole = 5.0", "expected an integer, got 5.0"),
        ("whole = true", "expected an integer, got True"),
        ('whole = "5"', "expected an integer, got '5'"),
        ("real = true", "expected a number, got a boolean"),
        ("real = nan", "nan is not a finite number"),
        ('real = "5"', "expected a number, got a string"),
        ("text = 5", "expected a string, got 5"),
        ("wait = true", "expected a number, got a boolean"),
        ("size = 1.5", "expected bytes, got a number"),
        ("rate = 0", "0 is not above zero"),
        ('maybe = "x"', "expected an integer, got 'x'"),
        ("mixed = 1.5", "expected an integer, got 1.5"),
        ('pick = "c"', "'c' is not one of them"),
        ("pick = true", "True is not one of them"),
        ("pick = 3.0", "3.0 is not one of them"),
        ("level = true", "True is not one of them"),
        ('colour = "bleu"', "'bleu' is not one of them; did you mean 'blue'?"),
        ('path = ""', "expected a path, got ''"),
        ("day = 2024-02-03T04:05:06", "datetime is not a date"),
        ('moment = "soon"', "'soon' is not a datetime"),
        ("items = 5", "expected a list, got an integer"),
        ("table = 5", "expected a table, got an integer"),
        ("inner = [1]", "expected a table, got a list"),
    ],
)
def test_what_does_not_fit(tmp_path, setting, problem):
    path = write(tmp_path, f"\n{setting}\n")
    [(where, said, accepted, source)] = mistakes(path, into=Kinds)
    assert (where, said, source) == (setting.partition(" ")[0], problem, f"{path}:2")
    assert accepted


@pytest.mark.parametrize(
    ("name", "text"),
    [("FLAG", "yes"), ("WHOLE", "5.5"), ("REAL", "x"), ("PICK", "c"), ("ITEMS", "1,x"),
     ("ITEMS", "[1,"), ("INNER", "x"), ("TABLE", "x"), ("WAIT", ""), ("FLAG__X", "1")],
)  # fmt: skip
def test_what_does_not_fit_from_the_environment(name, text):
    [(_, _, _, source)] = mistakes(into=Kinds, env={f"K_{name}": text}, env_prefix="K_")
    assert source == f"K_{name}"


def test_everything_is_reported_at_once(tmp_path):
    path = write(
        tmp_path,
        '[health]\ncache_ttl = -1\ncheck_timeuot = 2\n\n[lifecycle]\nprobe_failures = 0\ndrain = "x"\n'
        '[ratelimit.a]\nrate = "5/fortnight"\nburst = 0\n[nothing]\nx = 1\n',
    )
    found = mistakes(path, env={"HASTACK_HEALTH__FAILURES": "0", "HASTACK_HEALT__X": "1"})
    assert {(where, (source or "").removeprefix(str(path))) for where, _, _, source in found} == {
        ("health.cache_ttl", ":2"),
        ("health.check_timeuot", ":3"),
        ("lifecycle.probe_failures", ":6"),
        ("lifecycle.drain", ":7"),
        ("ratelimit.a.rate", ":9"),
        ("ratelimit.a.burst", ":10"),
        ("nothing", ":11"),
        ("health.failures", "HASTACK_HEALTH__FAILURES"),
        ("healt", "HASTACK_HEALT__X"),
    }
    assert len(found) == 9
    by_path = {where: (problem, accepted) for where, problem, accepted, _ in found}
    assert by_path["health.cache_ttl"] == ("-1.0 is out of range", ">= 0")
    assert "did you mean 'check_timeout'?" in by_path["health.check_timeuot"][0]
    assert "did you mean 'health'?" in by_path["healt"][0]


def test_what_is_missing_is_looked_for_where_its_table_was_opened(tmp_path):
    first = write(tmp_path, "\n[ratelimit.a]\n")
    second = write(tmp_path, "[ratelimit.a]\nburst = 2\n", "b.toml")
    [(where, _, _, source)] = mistakes(first, second)
    assert (where, source) == ("ratelimit.a.rate", f"{first}:2")


def test_the_message_lists_them(tmp_path):
    path = write(tmp_path, "[health]\ncache_ttl = -1\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, env=None)
    assert str(caught.value) == (
        "1 mistake in the configuration:\n"
        f"  - health.cache_ttl: -1.0 is out of range (accepted: >= 0) [{path}:2]"
    )


def test_a_mistake_in_a_lower_layer_that_is_overridden_does_not_count(tmp_path):
    path = write(tmp_path, "[health]\ncache_ttl = -1\n")
    assert config.load(path, env={"HASTACK_HEALTH__CACHE_TTL": "1"}).health.cache_ttl == 1.0


def test_lists_and_values_are_replaced_whole(tmp_path):
    low = write(tmp_path, "items = [1, 2, 3]\n[inner]\nn = 5\n")
    loaded = config.load(low, into=Kinds, env=None, override={"items": [9], "inner": {"name": "y"}})
    assert loaded.items == [9]
    assert loaded.inner == Inner(n=5, name="y")
    [(where, *_, source)] = mistakes(low, into=Kinds, override={"items": [9, "x"]})
    assert (where, source) == ("items[1]", "override")
    [(where, *_, source)] = mistakes(low, into=Kinds, override={"inner": 5})
    assert (where, source) == ("inner", "override")
    [(where, *_, source)] = mistakes(low, into=Kinds, override={"items": {"a": 1}})
    assert (where, source) == ("items", "override")


def test_settings_objects_are_taken_whole():
    loaded = config.load(
        env=None, override={"health": config.HealthConfig(failures=9), "ratelimit": {"t": config.TimeoutConfig(seconds=1.0)}}
    )  # fmt: skip
    assert loaded.health.failures == 9
    assert loaded.ratelimit["t"].seconds == 1.0


def test_required_private_converted_and_hidden_fields():
    loaded = config.load(
        into=Plain, env=None, override={"required": 1, "private": "p", "shouted": "y"}
    )
    assert (loaded.required, loaded._private, loaded.shouted, loaded.hidden) == (1, "p", "Y", 7)
    assert mistakes(into=Plain) == [("required", "is required and missing", "an integer", None)]
    assert [m[:2] for m in mistakes(into=Plain, override={"hidden": 1, "checked": 0})] == [
        ("hidden", "unknown key"),
        ("required", "is required and missing"),
        ("checked", "'checked' must be > 0: 0"),
    ]


@attrs.frozen(kw_only=True)
class Demanding:
    inner: Inner
    anything: Any
    even: int = config.setting(2, minimum=0, validator=attrs.validators.in_([0, 2, 4]))


def test_required_tables_and_values_of_any_kind():
    assert mistakes(into=Demanding) == [
        ("inner", "is required and missing", None, None),
        ("anything", "is required and missing", None, None),
    ]
    given = {"inner": {}, "anything": 1}
    for wrong, problem in ((-2, "-2 is out of range"), (3, "'even' must be in [0, 2, 4] (got 3)")):
        assert mistakes(into=Demanding, override=given | {"even": wrong})[0][1] == problem


@attrs.frozen(kw_only=True)
class Keyed:
    by_number: dict[int, str] = attrs.field(factory=dict)
    by_colour: Mapping[Colour, Inner] = attrs.field(factory=dict)


def test_keys_of_other_types(tmp_path):
    path = write(tmp_path, '[by_number]\n1 = "one"\n[by_colour.red]\nn = 2\n')
    loaded = config.load(path, into=Keyed, env={"K_BY_NUMBER__2": "two"}, env_prefix="K_")
    assert loaded.by_number == {1: "one", 2: "two"}
    assert loaded.by_colour == {Colour.RED: Inner(n=2)}
    found = {s.path for s in config.explain(path, into=Keyed, env=None)}
    assert found == {"by_number.1", "by_colour.red.n", "by_colour.red.name"}
    path = write(tmp_path, '[by_number]\nx = "one"\n[by_colour.rde]\nn = 99\n')
    assert [(m[0], m[1]) for m in mistakes(path, into=Keyed)] == [
        ("by_number.x", "as a key, 'x' is not an integer"),
        ("by_colour.rde", "as a key, 'rde' is not one of them; did you mean 'red'?"),
        ("by_colour.rde.n", "99 is out of range"),
    ]


def test_a_file_loads_even_if_its_lines_cannot_be_found(tmp_path, monkeypatch):
    def lost(text):
        raise IndexError

    monkeypatch.setattr("hastack._config._files.key_lines", lost)
    path = write(tmp_path, "[health]\nfailures = 0\n")
    assert mistakes(path)[0][3] == str(path)


def test_a_misspelt_required_key_is_one_mistake():
    [(where, problem, _, _)] = mistakes(into=Plain, override={"requierd": 1})
    assert (where, problem) == ("requierd", "unknown key; did you mean 'required'?")


def test_several_ranges_in_one_table_are_all_reported():
    found = mistakes(override={"health": {"cache_ttl": -1, "check_timeout": 0, "failures": 0}})
    assert [m[0] for m in found] == ["health.check_timeout", "health.cache_ttl", "health.failures"]


def test_rules_between_fields_are_reported_at_the_table():
    given = {"ratelimit": {"db": {"kind": "circuit-breaker", "open_for": "9s", "open_max": "1s"}}}
    assert mistakes(override=given) == [
        ("ratelimit.db", "expected open_max >= open_for", None, "override")
    ]


@attrs.frozen(kw_only=True)
class Pair:
    low: int = 0
    high: int = attrs.field(default=1)

    @high.validator
    def _above_low(self, attribute, value):
        if value <= self.low:
            raise ValueError("high must be above low")


def test_validators_that_look_at_other_fields():
    assert mistakes(into=Pair, override={"low": 5}) == [
        ("high", "high must be above low", None, None)
    ]
    found = mistakes(into=Pair, override={"low": "x", "high": 5})
    assert [m[0] for m in found] == ["low"]  # the other cannot be judged


@attrs.frozen
class Fussy:
    number: int = attrs.field(default=1, converter=lambda value: 10 // value)

    def __attrs_post_init__(self):
        if self.number == 10:
            raise RuntimeError


def test_whatever_a_class_raises_is_a_mistake():
    assert mistakes(into=Fussy, override={"number": 0})[0][:2] == (
        "(root)",
        "integer division or modulo by zero",
    )
    assert mistakes(into=Fussy, override={"number": 1})[0][:2] == ("(root)", "RuntimeError")


GUARDS = {
    "token": {"rate": "5/s"},
    "leaky": {"kind": "leaky-bucket", "rate": 5, "max_wait": "context"},
    "bulkhead": {"kind": "concurrency-limit", "limit": 3},
    "adaptive": {"kind": "adaptive-limit"},
    "db": {"kind": "circuit-breaker", "window": "10s", "slow_call": "1s"},
    "again": {"kind": "retry", "attempts": 5},
    "quick": {"kind": "timeout", "seconds": "250ms"},
}


def test_guards_by_kind():
    loaded = config.load(env=None, override={"ratelimit": GUARDS}).ratelimit
    assert {name: type(guard).__name__ for name, guard in loaded.items()} == {
        "token": "LimiterConfig",
        "leaky": "LimiterConfig",
        "bulkhead": "ConcurrencyConfig",
        "adaptive": "AdaptiveConfig",
        "db": "BreakerConfig",
        "again": "RetryConfig",
        "quick": "TimeoutConfig",
    }
    assert loaded["leaky"].max_wait == "context"


@pytest.mark.parametrize(
    ("guard", "path"),
    [
        ({"kind": "token-bukket"}, "ratelimit.g.kind"),
        ({"kind": 5}, "ratelimit.g.kind"),
        (5, "ratelimit.g"),
        ({}, "ratelimit.g.rate"),
        ({"kind": "timeout", "rate": 5, "seconds": 1}, "ratelimit.g.rate"),
        ({"kind": "adaptive-limit", "initial": 5000}, "ratelimit.g"),
        ({"kind": "retry", "base": 20}, "ratelimit.g"),
        ({"kind": "circuit-breaker", "window": 1, "window_calls": 50}, "ratelimit.g"),
        ({"kind": "circuit-breaker", "window_calls": 5}, "ratelimit.g"),
    ],
)
def test_bad_guards(guard, path):
    [(where, *_)] = mistakes(override={"ratelimit": {"g": guard}})
    assert where == path


def test_environment_names_meet_keys_in_any_case(tmp_path):
    path = write(tmp_path, '[ratelimit."My-API"]\nrate = 5\n[ratelimit.other]\nrate = 6\n')
    env = {
        "HASTACK_RATELIMIT__MY_API__RATE": "7",
        "HASTACK_ratelimit__NEW_one__rate": "8",
        "HASTACK_RATELIMIT__OTHER__BURST": "9",
        "hastack_health__cache_ttl": "x",  # another prefix
    }
    loaded = config.load(path, env=env).ratelimit
    assert {name: guard.rate for name, guard in loaded.items()} == {
        "My-API": 7.0,
        "other": 6.0,
        "new_one": 8.0,
    }
    assert loaded["other"].burst == 9.0


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["HASTACK_HEALTH__CACHE_TTL", "HASTACK_HEALTH__cache_ttl"], 1),
        (["HASTACK_HEALTH", "HASTACK_HEALTH__CACHE_TTL"], 2),  # and the first is no table
        (["HASTACK_"], 1),
        (["HASTACK_HEALTH____CACHE_TTL"], 1),
        (["HASTACK_HEALTH__CACHE_TTL__X"], 1),
    ],
)
def test_contradicting_and_malformed_variables(names, count):
    assert len(mistakes(env=dict.fromkeys(names, "1"))) == count


def test_variables_of_the_build_are_no_settings():
    assert config.load(env={"HASTACK_PURE": "1", "HASTACK_COMPILE": "1", "HASTACK_APT": "0"})


def test_broken_files_are_all_reported(tmp_path):
    bad = write(tmp_path, "a = 1\nb = = 2\n", "bad.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'a = "\xe9"\n')
    found = mistakes(
        bad, latin, tmp_path / "missing.toml", tmp_path, into=Plain, override={"checked": 0}
    )
    assert [(where, source) for where, _, _, source in found] == [
        ("(file)", f"{bad}:2"),
        ("(file)", str(latin)),
        ("(file)", str(tmp_path / "missing.toml")),
        ("(file)", str(tmp_path)),
        ("checked", "override"),
    ]  # `required` may stand in one of them
    problems = [problem for _, problem, _, _ in found]
    assert problems[0].startswith("is not valid TOML: ")
    assert problems[1:4] == [
        "is not UTF-8 text",
        "cannot be read: No such file or directory",
        "cannot be read: not a regular file",
    ]


def test_hostile_files(tmp_path, monkeypatch):
    deep = write(tmp_path, "a = " + "[" * 100_000)
    assert mistakes(deep)[0][0] == "(file)"
    monkeypatch.setattr("hastack._config._files._MAX_BYTES", 10)
    assert "larger than" in mistakes(write(tmp_path, "a = 1111111111"))[0][1]


def test_windows_line_ends_keep_the_lines(tmp_path):
    path = tmp_path / "crlf.toml"
    path.write_bytes(b"[health]\r\n\r\ncache_ttl = -1\r\n")
    assert mistakes(path)[0][3] == f"{path}:3"


class Remote:
    name = "remote"

    def __init__(self, values, error=None):
        self.values, self.error = values, error

    def read(self):
        if self.error:
            raise self.error
        return config.Snapshot(self.values, {("health", "failures"): "remote at revision 7"})

    def version(self):
        return 1


def test_other_sources():
    remote = Remote({"health": {"failures": 4, "cache_ttl": 2}})
    assert isinstance(remote, config.Source)
    assert config.load(remote, env=None).health.failures == 4
    found = mistakes(Remote({"health": {"failures": 0, "cache_ttl": -2}}))
    assert [(m[0], m[3]) for m in found] == [
        ("health.cache_ttl", "remote"),
        ("health.failures", "remote at revision 7"),
    ]
    [(where, problem, _, source)] = mistakes(Remote({}, OSError("down")))
    assert (where, problem, source) == ("(source)", "cannot be read: OSError: down", "remote")


def test_keys_are_strings():
    [(where, problem, _, _)] = mistakes(override={"health": {5: 1}})
    assert (where, problem) == ("health[5]", "keys are strings")


def test_sections(monkeypatch):
    monkeypatch.setattr(_settings, "_sections", {})
    mail = config.section("mail", Inner)
    assert config.section("mail", Inner) is mail
    assert repr(mail) == "Section('mail', Inner)"
    loaded = config.load(env={"HASTACK_MAIL__N": "3"})
    assert mail.of(loaded) == Inner(n=3)
    assert mail.of(config.Config()) == Inner()
    assert config.load(env=None).sections == {"mail": Inner()}
    assert mistakes(override={"mail": {"n": 99}})[0][0] == "mail.n"
    assert [s.path for s in config.explain(env=None)][-2:] == ["mail.n", "mail.name"]
    assert "mail" in config.schema()["properties"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Mail", Inner),
        (5, Inner),
        ("health", Inner),
        ("a__b", Inner),
        ("a-b", Inner),
        ("x", Plain),
        ("x", int),
    ],
)
def test_bad_sections(monkeypatch, name, settings):
    monkeypatch.setattr(_settings, "_sections", {})
    with pytest.raises(InvalidArgument):
        config.section(name, settings)


def test_a_section_belongs_to_one_class(monkeypatch):
    monkeypatch.setattr(_settings, "_sections", {})
    config.section("mail", Inner)
    with pytest.raises(InvalidArgument, match="mail"):
        config.section("mail", Pair)


@attrs.frozen
class Nested:
    hastack: config.Config = attrs.field(factory=config.Config)
    debug: bool = False


def test_an_application_nests_hastack():
    env = {"SHOP_HASTACK__HEALTH__FAILURES": "7", "SHOP_DEBUG": "1", "HASTACK_NONSENSE": "x"}
    loaded = config.load(into=Nested, env=env, env_prefix="SHOP_")
    assert loaded.hastack.health.failures == 7
    assert loaded.debug is True


@attrs.frozen
class Unknown:
    thing: range = range(0)


@attrs.frozen
class Unresolved:
    thing: "NoSuchName" = None  # noqa: F821


@pytest.mark.parametrize(
    "kwargs",
    [
        {"into": int}, {"into": Inner()}, {"env": 5}, {"override": [1]}, {"env_prefix": "SHOP"},
        {"env_prefix": "_"}, {"env_prefix": None}, {"into": Unresolved},
        {"into": Unknown, "override": {"thing": 1}},
    ],
)  # fmt: skip
def test_bad_arguments(kwargs):
    with pytest.raises(InvalidArgument):
        config.load(**{"env": None} | kwargs)


def test_bad_sources():
    for wrong in (5, None, object()):
        with pytest.raises(InvalidArgument, match="sources"):
            config.load(wrong, env=None)
    with pytest.raises(InvalidArgument, match="path"):
        config.TomlFile(5)


class Port(int):
    pass


@attrs.frozen
class Server:
    port: Port = attrs.field(default=Port(80))


def test_registered_types():
    config.register_type(Port, lambda value: Port(int(value)), accepted="a port number")
    assert config.load(into=Server, env={"S_PORT": "8080"}, env_prefix="S_").port == 8080
    assert config.load(into=Server, env=None, override={"port": Port(1)}).port == 1
    [(_, problem, accepted, _)] = mistakes(into=Server, override={"port": "x"})
    assert (problem, accepted) == ("'x' does not fit", "a port number")


def test_explain(tmp_path):
    path = write(tmp_path, "[health]\nfailures = 3\ncache_ttl = 5\n")
    found = config.explain(
        path,
        env={"HASTACK_HEALTH__CACHE_TTL": "2s"},
        override={"ratelimit": {"x": config.TimeoutConfig(seconds=5)}, "lifecycle": {"drain": 1}},
    )
    sources = {s.path: (s.value, s.source) for s in found}
    assert sources["health.failures"] == (3, f"{path}:2")
    assert sources["health.cache_ttl"] == (2.0, "HASTACK_HEALTH__CACHE_TTL")
    assert sources["health.successes"] == (1, "default")
    assert sources["ratelimit.x.seconds"] == (5, "override")
    assert sources["lifecycle.drain"] == (1.0, "override")
    assert sources["lifecycle.stop"] == (10.0, "default")
    with pytest.raises(ConfigError):
        config.explain(env=None, override={"x": 1})


_ONE_FILE = """
import sys
from hastack import config
assert not any(name.startswith(("hastack.observe", "hastack.wasm")) for name in sys.modules)
tables = {"observe": {"service": "shop"}, "logs": {"formats": ["logfmt"]}, "wasm": {"plugins": {}}}
loaded = config.load(env={"HASTACK_OBSERVE__QUEUE__SHARDS": "2"}, override=tables)
print(loaded.sections["observe"].service, loaded.sections["observe"].queue.shards)
print(loaded.sections["logs"].formats, dict(loaded.sections["wasm"].plugins))
"""


def test_a_file_means_the_same_to_a_process_that_does_not_use_all_packages():
    done = subprocess.run(
        [sys.executable, "-c", _ONE_FILE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(config.__file__).parents[1])},
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["shop", "2", "('logfmt',)", "{}"]

"""Random settings survive every way in, and every injected mistake is counted once."""

import json
import string
import tomllib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hastack import config
from hastack._config._toml_lines import key_lines
from hastack.errors import ConfigError

NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
SECONDS = st.one_of(st.integers(1, 10**6), st.floats(0.001, 1e6, allow_nan=False))


def table(**fields):
    return st.fixed_dictionaries({}, optional=fields)


LIMITER = st.fixed_dictionaries(
    {"rate": st.one_of(st.integers(1, 10**6), st.sampled_from(["5/s", "100 per minute", "3/2h"]))},
    optional={
        "kind": st.sampled_from(["token-bucket", "leaky-bucket", "fixed-window"]),
        "max_keys": st.integers(1, 1000),
        "max_wait": SECONDS,
    },
)
BREAKER = st.fixed_dictionaries(
    {"kind": st.just("circuit-breaker")},
    optional={
        "failure_rate": st.floats(0.01, 1.0),
        "window": SECONDS,
        "min_calls": st.integers(1, 100),
        "slow_call": st.one_of(SECONDS, st.just("none")),
    },
)
TREES = table(
    ratelimit=st.dictionaries(NAMES, st.one_of(LIMITER, BREAKER), max_size=4),
    lifecycle=table(
        lame_duck=SECONDS, probe_period=SECONDS, probe_failures=st.integers(1, 9), drain=SECONDS
    ),
    health=table(check_timeout=SECONDS, cache_ttl=SECONDS, failures=st.integers(1, 9)),
)


def to_toml(tree, at=()):
    """``tree`` as TOML: values first, then tables."""
    lines = [
        f"{json.dumps(k)} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, dict)
    ]
    for key, value in tree.items():
        if isinstance(value, dict):
            name = ".".join(json.dumps(part) for part in (*at, key))
            lines += ["", f"[{name}]", to_toml(value, (*at, key))]
    return "\n".join(lines)


def to_env(tree, prefix="HASTACK_"):
    """``tree`` as environment variables."""
    found = {}
    for key, value in tree.items():
        name = f"{prefix}{key.upper()}"
        if isinstance(value, dict):
            found |= to_env(value, f"{name}__")
        else:
            found[name] = value if isinstance(value, str) else json.dumps(value)
    return found


def without_empty(tree):
    """Variables cannot say "an empty table"."""
    inner = {k: without_empty(v) if isinstance(v, dict) else v for k, v in tree.items()}
    return {k: v for k, v in inner.items() if v != {}}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "tree.toml"


@settings(max_examples=150)
@given(tree=TREES)
def test_the_same_tree_by_file_environment_and_mapping(file, tree):
    file.write_text(to_toml(tree), encoding="utf-8")
    expected = config.load(env=None, override=tree)
    assert config.load(file, env=None) == expected
    assert config.load(env=to_env(without_empty(tree))) == config.load(
        env=None, override=without_empty(tree)
    )
    # And what is in force can be given again.
    shown = {s.path: s.value for s in config.explain(env=None, override=tree)}
    assert shown == {s.path: s.value for s in config.explain(env=None, override={
        k: getattr(expected, k) for k in ("ratelimit", "lifecycle", "health")
    })}  # fmt: skip


WRONG = {
    "lifecycle": {
        "lame_duck": ["x", -1, True], "probe_period": [0, "5 apples"], "probe_failures": [0, 1.5],
        "drain": [-1, []], "stop": ["", {}],
    },
    "health": {"check_timeout": [0, False], "cache_ttl": [-0.5], "failures": [0, "1"]},
}  # fmt: skip
WRONG_GUARD = {
    "burst": [0, "x"],
    "max_keys": [0, None],
    "max_waiting": [-1],
    "slot": [0],
    "nonsense": [1],
}


@st.composite
def mistaken(draw):
    """A tree with a known number of mistakes, and where each of them is."""
    tree, paths = {}, set()
    for section, fields in WRONG.items():
        for field in draw(st.sets(st.sampled_from(sorted(fields)))):
            tree.setdefault(section, {})[field] = draw(st.sampled_from(fields[field]))
            paths.add(f"{section}.{field}")
    for name in draw(st.sets(NAMES, max_size=3)):
        guard = {"rate": "5/s"}
        if draw(st.booleans()):
            guard["rate"] = draw(st.sampled_from(["5/eon", 0, []]))
            paths.add(f"ratelimit.{name}.rate")
        for field in draw(st.sets(st.sampled_from(sorted(WRONG_GUARD)))):
            guard[field] = draw(st.sampled_from(WRONG_GUARD[field]))
            paths.add(f"ratelimit.{name}.{field}")
        tree.setdefault("ratelimit", {})[name] = guard
    for key in draw(st.sets(NAMES.map(lambda name: f"unknown{name}"), max_size=3)):
        section = draw(st.sampled_from(["", "health", "lifecycle"]))
        (tree.setdefault(section, {}) if section else tree)[key] = 1
        paths.add(f"{section}.{key}" if section else key)
    return tree, paths


@settings(max_examples=200)
@given(case=mistaken())
def test_as_many_mistakes_as_were_made(case):
    tree, paths = case
    try:
        config.load(env=None, override=tree)
    except ConfigError as error:
        found = [mistake.path for mistake in error.exceptions]
        assert sorted(found) == sorted(paths)
    else:
        assert not paths


@settings(max_examples=100)
@given(case=mistaken())
def test_each_mistake_in_a_file_has_its_line(file, case):
    tree, _ = case
    tree = {
        k: {f: v for f, v in t.items() if v is not None} if isinstance(t, dict) else t
        for k, t in tree.items()
    }
    for guard in tree.get("ratelimit", {}).values():
        for field in [f for f, v in guard.items() if v is None]:
            del guard[field]
    text = to_toml(tree)
    file.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    try:
        config.load(file, env=None)
    except ConfigError as error:
        for mistake in error.exceptions:
            name, _, number = mistake.source.rpartition(":")
            assert name == str(file)
            assert mistake.path.rpartition(".")[2] in lines[int(number) - 1]


VALUES = st.recursive(
    st.one_of(
        st.integers(-100, 100),
        st.booleans(),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8),
        st.sampled_from(['"""', "'''", "#", "[a]", "]", "}", "a = 1", "\\", '"', "é"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("ab.#\"é' ", max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


def toml_value(value, draw):
    """One way of many to write ``value``."""
    if isinstance(value, dict):
        inner = ", ".join(
            f"{json.dumps(k, ensure_ascii=False)} = {toml_value(v, draw)}" for k, v in value.items()
        )
        return f"{{ {inner} }}"
    if isinstance(value, list):
        gap = draw(st.sampled_from(["", "\n", " # a ] comment\n  "]))
        return f"[{gap}{f',{gap}'.join(toml_value(v, draw) for v in value)}{gap}]"
    if isinstance(value, str) and "'''" not in value and not value.endswith("'"):
        style = draw(st.sampled_from(["basic", "literal", "multi"]))
        if style == "literal":
            return f"'''\n{value}'''"
        if style == "multi":
            return '"""\n' + json.dumps(value, ensure_ascii=False)[1:-1] + '"""'
    return json.dumps(value, ensure_ascii=False)


def paths(value, at=()):
    if isinstance(value, dict):
        for key, each in value.items():
            yield (*at, key)
            yield from paths(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield (*at, number)
            yield from paths(each, (*at, number))


@settings(max_examples=200)
@given(data=st.data(), tree=st.dictionaries(st.text('abc." #=é[]', max_size=4), VALUES, max_size=4))
def test_every_key_of_any_document_has_a_line(data, tree):
    text = "\n".join(
        f"{json.dumps(key, ensure_ascii=False)} = {toml_value(value, data.draw)} # end"
        for key, value in tree.items()
    )
    assert tomllib.loads(text) == tree
    lines = key_lines(text)
    assert set(lines) == set(paths(tree))
    rows = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert json.dumps(path[-1], ensure_ascii=False) in rows[line - 1]


@attrs.frozen
class Wait:
    length_: config.Seconds = attrs.field(default=0.0, alias="length")


@settings(max_examples=100)
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "min", "h"])),
        min_size=1,
        max_size=4,
    )
)
def test_lengths_of_time_add_up(parts):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    factors = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
    loaded = config.load(into=Wait, env=None, override={"length": text})
    assert loaded.length_ == pytest.approx(sum(n * factors[u] for n, u in parts))

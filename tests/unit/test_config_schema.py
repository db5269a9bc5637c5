"""The JSON Schema and the plain form of a tree."""
# ruff: noqa: RUF009  # setting() is an attrs.field()

import datetime as dt
import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from hastack import config
from hastack._config._describe import plain
from hastack.errors import InvalidArgument


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen(kw_only=True)
class Leaf:
    """One leaf.

    More words.
    """

    wait: config.Seconds | None = config.setting(None, above=0.0, help="How long.")
    size: config.Bytes = config.setting("1KiB", minimum=1, maximum=10)
    share: float = config.setting(0.5, minimum=0.0, below=1.0, unit="of calls")
    counted: int = attrs.field(
        default=2, validator=[attrs.validators.gt(1), attrs.validators.le(5)]
    )
    maybe: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    text: str | None = None
    pick: Literal["a", "b"] | None = "a"
    colour: Colour = Colour.RED
    names: tuple[str, ...] = ("x",)
    mixed: int | str = 1
    needed: bool
    file: Path = Path("x")
    day: dt.date = dt.date(2000, 1, 1)
    span: dt.timedelta = dt.timedelta(seconds=1)
    computed: int = attrs.field(default=attrs.Factory(lambda self: 1, takes_self=True))
    anything: Any = None
    checked: str = attrs.field(default="", validator=attrs.validators.matches_re(".*"))


@attrs.frozen(kw_only=True)
class Tree:
    leaves: Mapping[str, Leaf] = attrs.field(factory=dict)
    guard: config.GuardConfig | None = None


def test_the_whole_tree_is_json():
    found = config.schema()
    assert json.loads(json.dumps(found)) == found
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["title"] == "Config"
    assert found["additionalProperties"] is False
    assert {"ratelimit", "lifecycle", "health"} <= set(found["properties"])
    limiter = found["$defs"]["LimiterConfig"]
    assert limiter["required"] == ["rate"]
    assert limiter["description"] == "A rate limiter."
    members = found["properties"]["ratelimit"]["additionalProperties"]["oneOf"]
    assert members[0] == {"$ref": "#/$defs/LimiterConfig"}
    assert all(member["required"] == ["kind"] for member in members[1:])


def test_every_setting_of_hastack_is_described():
    for name, table in config.schema()["$defs"].items():
        for key, entry in table["properties"].items():
            assert entry.get("description"), (name, key)


def test_leaves():
    found = config.schema(Tree)["$defs"]["Leaf"]
    assert found["description"] == "One leaf."
    assert found["required"] == ["needed"]
    p = found["properties"]
    assert p["wait"]["description"] == "How long. Unit: seconds."
    assert p["wait"]["anyOf"][0]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0.0}
    assert p["wait"]["anyOf"][1] == {"const": "none"}
    assert p["size"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert p["share"] == {
        "type": "number", "x-unit": "of calls", "description": "Unit: of calls.",
        "minimum": 0.0, "exclusiveMaximum": 1.0, "default": 0.5,
    }  # fmt: skip
    assert p["counted"] == {"type": "integer", "exclusiveMinimum": 1, "maximum": 5, "default": 2}
    assert p["maybe"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"const": "none"}]
    assert p["text"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert p["pick"]["anyOf"][0] == {"enum": ["a", "b"]}
    assert p["colour"] == {"enum": ["red"], "default": "red"}
    assert p["names"] == {"type": "array", "items": {"type": "string"}, "default": ["x"]}
    assert p["mixed"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert p["needed"] == {"type": "boolean"}
    assert p["day"]["default"] == "2000-01-01"
    assert p["span"]["default"] == 1.0
    assert "default" not in p["computed"]
    assert p["anything"] == {"default": None}


def _second():
    @attrs.frozen
    class Leaf:
        other: int = 1

    return Leaf


Second = _second()


@attrs.frozen
class Both:
    a: Leaf
    b: Second
    c: Leaf


def test_two_classes_of_one_name():
    found = config.schema(Both)
    assert set(found["$defs"]) == {"Leaf", "Leaf_"}
    assert found["properties"]["a"] == found["properties"]["c"] == {"$ref": "#/$defs/Leaf"}


def test_not_a_class():
    with pytest.raises(InvalidArgument, match="into"):
        config.schema(5)


def test_plain_values():
    given = {
        "s": config.Secret("x"), "p": Path("/a"), "e": Colour.RED, "t": dt.timedelta(minutes=1),
        "l": (1, {2}), "n": None, "c": config.TimeoutConfig(seconds=1.0), "d": dt.date(2000, 1, 1),
    }  # fmt: skip
    assert plain(given) == {
        "s": "***", "p": "/a", "e": "red", "t": 60.0, "l": [1, [2]], "n": None,
        "c": {"kind": "timeout", "seconds": 1.0, "shadow": False}, "d": "2000-01-01",
    }  # fmt: skip

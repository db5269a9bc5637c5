"""What the guide says about settings and errors is so."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from hastack import config, errors

DOCS = Path(__file__).parents[2] / "docs"


def test_the_file_in_the_guide_names_every_setting_with_its_default():
    [text] = re.findall(r"```toml\n(.*?)```", (DOCS / "config.md").read_text(), re.DOTALL)
    given = tomllib.loads(text)
    loaded = config.load(env=None, override=given)
    assert loaded.lifecycle == config.LifecycleConfig()
    assert loaded.health == config.HealthConfig()
    assert loaded.discovery == config.DiscoveryConfig()
    assert set(given["lifecycle"]) | {"lame_duck"} == set(attrs.fields_dict(config.LifecycleConfig))
    assert set(given["health"]) == set(attrs.fields_dict(config.HealthConfig))
    assert set(given["discovery"]) | {"cache"} == set(attrs.fields_dict(config.DiscoveryConfig))
    assert set(given) == set(attrs.fields_dict(config.Config)) - {"sections"}


def _rows():
    row = re.compile(r"^\| (– )?`(\w+)` \| (?:`(\w+)`)? ?\|", re.MULTILINE)
    above = errors.HastackError
    for below, name, builtin in row.findall((DOCS / "errors.md").read_text()):
        cls = getattr(errors, name)
        yield cls, above if below else errors.HastackError, builtin
        if not below:
            above = cls


def test_the_table_of_errors_is_complete():
    assert {cls.__name__ for cls, _, _ in _rows()} == set(errors.__all__)


@pytest.mark.parametrize(("cls", "above", "builtin"), list(_rows()))
def test_the_table_of_errors_says_what_they_are(cls, above, builtin):
    assert issubclass(cls, above)
    own = {base.__name__ for base in cls.__bases__ if base.__module__ == "builtins"}
    assert own - {"Exception"} == ({builtin} if builtin else set())

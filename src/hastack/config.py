"""Configuration: attrs classes in, one frozen tree out, every mistake reported at once.

Where a value comes from, the later winning key by key: the class's default, the sources in the
order given (TOML files, or anything else that is a `Source`), the environment
(``HASTACK_RATELIMIT__DEFAULT__RATE=100/s``), and ``override``.

Example:
    >>> from hastack import config
    >>> from hastack.errors import ConfigError
    >>> settings = config.load(
    ...     env={"HASTACK_RATELIMIT__DEFAULT__RATE": "100/s"},
    ...     override={"health": {"check_timeout": "250ms"}},
    ... )
    >>> settings.ratelimit["default"].rate, settings.health.check_timeout
    ('100/s', 0.25)
    >>> try:
    ...     config.load(env=None, override={"health": {"check_timeuot": 1, "cache_ttl": -1}})
    ... except ConfigError as error:
    ...     for mistake in error.exceptions:
    ...         print(mistake.path, "-", mistake.problem)
    health.check_timeuot - unknown key; did you mean 'check_timeout'?
    health.cache_ttl - -1.0 is out of range
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

import attrs

from ._config._describe import json_schema, leaves
from ._config._fields import Bytes, Rate, Seconds, setting
from ._config._files import TomlFile
from ._config._layers import Snapshot, Source, dotted
from ._config._leaves import register_type
from ._config._load import SourceLike, recipe
from ._config._secret import Secret
from ._config._settings import (
    AdaptiveConfig,
    BreakerConfig,
    ConcurrencyConfig,
    Config,
    DiscoveryConfig,
    GuardConfig,
    HealthConfig,
    LifecycleConfig,
    LimiterConfig,
    RetryConfig,
    Section,
    TimeoutConfig,
    section,
)
from ._config._watch import ConfigReloaded, ConfigReloadFailed, Prepared, Watched, watch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "AdaptiveConfig",
    "BreakerConfig",
    "Bytes",
    "ConcurrencyConfig",
    "Config",
    "ConfigReloadFailed",
    "ConfigReloaded",
    "DiscoveryConfig",
    "GuardConfig",
    "HealthConfig",
    "LifecycleConfig",
    "LimiterConfig",
    "Prepared",
    "Rate",
    "RetryConfig",
    "Seconds",
    "Secret",
    "Section",
    "Setting",
    "Snapshot",
    "Source",
    "SourceLike",
    "TimeoutConfig",
    "TomlFile",
    "Watched",
    "explain",
    "load",
    "register_type",
    "schema",
    "section",
    "setting",
    "watch",
)

C = TypeVar("C")


@overload
def load(
    *sources: SourceLike,
    env: Mapping[str, str] | None = ...,
    env_prefix: str = ...,
    override: Mapping[str, Any] | None = ...,
) -> Config: ...


@overload
def load(
    *sources: SourceLike,
    into: type[C],
    env: Mapping[str, str] | None = ...,
    env_prefix: str = ...,
    override: Mapping[str, Any] | None = ...,
) -> C: ...


def load(
    *sources: SourceLike,
    into: type[Any] = Config,
    env: Mapping[str, str] | None = os.environ,
    env_prefix: str = "HASTACK_",
    override: Mapping[str, Any] | None = None,
) -> Any:
    """Read every source once and build the tree.

    Args:
        *sources: TOML files by path, or `Source` objects; later ones win.
        into: The attrs class to build; its own fields may be attrs classes, `Config` among
            them.
        env: Environment variables, which win over sources; ``None`` for none.
        env_prefix: Which variables are settings. An unknown variable with it is a mistake.
        override: Nested mapping that wins over everything, for command lines and tests.

    Returns:
        The tree.

    Raises:
        ConfigError: Everything that is wrong, each with path, accepted values and place.
        InvalidArgument: An argument of this function is of the wrong kind.
    """
    return recipe(sources, into, env, env_prefix, override).attempt().unwrap()


@final
@attrs.frozen
class Setting:
    """One value in force.

    Attributes:
        path: Dotted path, ``health.cache_ttl``.
        value: The value; a `Secret` stays one.
        source: Where it comes from: file and line, variable, or ``default``.
    """

    path: str
    value: Any
    source: str


def explain(
    *sources: SourceLike,
    into: type[Any] = Config,
    env: Mapping[str, str] | None = os.environ,
    env_prefix: str = "HASTACK_",
    override: Mapping[str, Any] | None = None,
) -> tuple[Setting, ...]:
    """Every value that `load` would return, with the place that it comes from.

    The arguments and errors are those of `load`.

    Example:
        >>> from hastack import config
        >>> for each in config.explain(env={"HASTACK_HEALTH__CACHE_TTL": "2s"}):
        ...     if each.path.startswith("health."):
        ...         print(each.path, each.value, each.source)
        health.check_timeout 1.0 default
        health.cache_ttl 2.0 HASTACK_HEALTH__CACHE_TTL
        health.failures 2 default
        health.successes 1 default
        health.loop_blocked_after 5.0 default
    """
    outcome = recipe(sources, into, env, env_prefix, override).attempt()
    merged = outcome.merged
    return tuple(
        Setting(
            dotted(path),
            value,
            merged.source_of(path, secret=isinstance(value, Secret)) or "default",
        )
        for path, value in leaves(outcome.unwrap())
    )


def schema(into: type[Any] = Config) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a settings class, for editors and reviews.

    Args:
        into: An attrs class.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> from hastack import config
        >>> found = config.schema()["$defs"]["HealthConfig"]["properties"]["cache_ttl"]
        >>> found["default"], found["description"]
        (1.0, "How long a check's answer is kept. Unit: seconds.")
    """
    return json_schema(recipe((), into, None, "HASTACK_", None).into)

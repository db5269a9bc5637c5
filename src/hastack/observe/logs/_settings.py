"""Settings of reading log lines: the ``logs`` table of the configuration."""
# ruff: noqa: RUF009  # setting() is an attrs.field(), made anew for each class

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # annotations are resolved at runtime
from pathlib import Path  # noqa: TC003  # as above
from types import MappingProxyType
from typing import final

import attrs

from hastack._config._fields import setting
from hastack._config._settings import section


@final
@attrs.frozen(kw_only=True)
class LogsConfig:
    """The ``logs`` table of the configuration; fields are options of `Parser`."""

    formats: tuple[str, ...] | None = setting(
        None, help="Names of formats, those asked first in front; unset: all that are known."
    )
    patterns: Mapping[str, str] = setting(
        factory=lambda: MappingProxyType({}),
        help="Grok patterns by the name of the format that they become; asked before the others.",
    )
    longest: str = setting("1MiB", help="Longer lines are rejected.")
    fallback: str = setting("replace", help="What becomes of lines that are not UTF-8.")
    schemas: Path | None = setting(
        None, help="File that Schemas.save() wrote; the fields of each format follow it."
    )


LOGS = section("logs", LogsConfig)

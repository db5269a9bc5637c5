"""An installed pipeline that follows its configuration, as far as that can be done in place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

import attrs

from hastack._config._watch import changed_paths
from hastack._core._errors import InvalidArgument
from hastack.config import Watched

from ._options import OBSERVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hastack.config import Config

    from ._install import Installed
    from ._options import ObserveConfig

_log = logging.getLogger("hastack.observe")

_QUEUE = {"max_units", "max_bytes", "max_block", "batch", "max_body", "linger"}
IN_PLACE = {"log_level", "metrics_every", *(f"queue.{name}" for name in _QUEUE)}
"""What takes effect without a restart, beside the timeouts of backends."""


def follow(installed: Installed, watched: Watched[Config]) -> Callable[[], None]:
    """See `Installed.follow`."""
    if not isinstance(watched, Watched):
        raise InvalidArgument("watched", watched, "a configuration made by hastack.config.watch")

    def prepare(old: Config, new: Config) -> _Change | None:
        before, after = OBSERVE.of(old), OBSERVE.of(new)
        if before == after:
            return None
        if after.log_level is not None:
            logging._checkLevel(after.log_level)  # type: ignore[attr-defined]  # as Handler does
        return _Change(installed, after, changed_paths(before, after))

    return watched.prepare("observe", prepare)


def in_place(path: str) -> bool:
    """Whether a changed setting takes effect without a restart."""
    parts = path.split(".")
    return path in IN_PLACE or (parts[0] == "backends" and parts[2:] == ["timeout"])


@final
@attrs.frozen
class _Change:
    installed: Installed
    settings: ObserveConfig
    changed: tuple[str, ...]

    def commit(self) -> None:
        settings, installed = self.settings, self.installed
        for exporter in installed.pipeline.exporters:
            backend = settings.backends.get(exporter.name.rpartition("-")[0])
            timeout = exporter._timeout if backend is None else backend.timeout
            exporter._retune(settings.queue, timeout)
        for each in (installed._reader, installed._collector):
            if each is not None:
                each._ticker.pace(settings.metrics_every)
        if installed._handler is not None and settings.log_level is not None:
            installed._handler.setLevel(settings.log_level)
        kept = [f"observe.{path}" for path in self.changed if not in_place(path)]
        if kept:
            _log.warning("changed, but in force only after a restart: %s", ", ".join(kept))

    def abort(self) -> None:
        """Nothing was taken."""

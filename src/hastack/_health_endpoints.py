"""The endpoints behind every host: from a request line to a whole response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core._errors import InvalidArgument
from ._health_http import OPENMETRICS, PATHS, Reply, question, refused, render
from ._health_metrics import EventCounter, exposition, flags, states
from ._lifecycle._machine import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._health_metrics import Family
    from .health import Health


class Endpoints:
    """Answers health requests from one `Health`.

    Args:
        health: Who knows.
        paths: Path -> question (``live``, ``ready``, ``startup`` or ``metrics``).
        metrics: Whether to count events for ``/metrics``.
    """

    def __init__(
        self, health: Health, *, paths: Mapping[str, str] | None = None, metrics: bool = True
    ) -> None:
        self.health = health
        self.paths = dict(PATHS if paths is None else paths)
        known = set(PATHS.values())
        for path, asked in self.paths.items():
            if not path.startswith("/") or asked not in known:
                raise InvalidArgument("paths", paths, f"absolute paths -> one of {sorted(known)}")
        if not metrics:
            self.paths = {p: a for p, a in self.paths.items() if a != "metrics"}
        self._counter = EventCounter() if "metrics" in self.paths.values() else None

    def close(self) -> None:
        """Stop counting events."""
        if self._counter is not None:
            self._counter.close()

    def question(self, path: str, root: str = "") -> str | None:
        """What ``path`` asks, or ``None`` when it is not ours."""
        return question(path, root, self.paths)

    def answer(self, asked: str, method: str, query: str, accept: str) -> Reply:
        """The whole response; blocks while checks run."""
        reply = self.quick(asked, method, query, accept)
        if reply is None:
            health = self.health
            verdict = health.readiness() if asked == "ready" else health.startup()
            reply = render(asked, verdict, query=query, accept=accept)
        return reply

    async def answer_async(self, asked: str, method: str, query: str, accept: str) -> Reply:
        """Like `answer`, without blocking the loop."""
        reply = self.quick(asked, method, query, accept)
        if reply is None:
            health = self.health
            if asked == "ready":
                verdict = await health.readiness_async()
            else:
                verdict = await health.startup_async()
            reply = render(asked, verdict, query=query, accept=accept)
        return reply

    def quick(self, asked: str, method: str, query: str, accept: str) -> Reply | None:
        """The response when it takes nothing but memory, or ``None``."""
        reply = refused(method)
        if reply is not None:
            return reply
        if asked == "live":
            return render(asked, self.health.liveness(), query=query, accept=accept)
        if asked == "metrics":
            return Reply(200, OPENMETRICS, self.metrics().encode())
        return None

    def metrics(self) -> str:
        """The OpenMetrics text."""
        return exposition([*self._state(), *(self._counter.families() if self._counter else ())])

    def _state(self) -> list[Family]:
        health = self.health
        ready = health.last_readiness()
        families = [
            flags(
                "hastack_health",
                "Verdicts of the service.",
                "verdict",
                {"live": bool(health.liveness()), "ready": bool(ready)},
            ),
            flags(
                "hastack_health_check",
                "Checks that are good.",
                "check",
                {each.name: each.ok is True for each in ready.checks},
            ),
        ]
        if health.lifecycle is not None:
            families.append(
                states(
                    "hastack_lifecycle_phase",
                    "Phase of the service.",
                    "phase",
                    health.lifecycle.phase.value,
                    [phase.value for phase in Phase],
                )
            )
        return [family for family in families if family.samples]

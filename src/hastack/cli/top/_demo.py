"""Guards that ``hastack top --demo`` drives itself: something to look at without a service."""

from __future__ import annotations

import math
import random
import threading
import time
from contextlib import suppress
from typing import Any, final

from hastack import ratelimit
from hastack._core._errors import Rejected
from hastack.contrib.dashboard import Dashboard

__all__ = ("Demo",)


@final
class Demo:
    """A small service in this process: a source of snapshots like the one over HTTP."""

    url = "demo in this process"

    def __init__(self) -> None:
        self._api = ratelimit.TokenBucket("60/s", burst=10, name="api")
        self._db = ratelimit.CircuitBreaker(name="db", window=3.0, min_calls=10, open_for=2.0)
        self._pool = ratelimit.ConcurrencyLimit(4, name="db pool")
        self._inventory = ratelimit.AdaptiveLimit(
            name="inventory", initial=4, min_samples=10, max_limit=64
        )
        self._dashboard = Dashboard(
            self._api, self._db, self._pool, self._inventory, service="demo", period=0.5
        )
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(6)
        ]
        for each in self._threads:
            each.start()

    def fetch(self) -> dict[str, Any]:
        """The snapshot of now."""
        return self._dashboard.snapshot().as_json()

    def close(self) -> None:
        """End the load and stop counting."""
        self._stop.set()
        for each in self._threads:
            each.join(1.0)
        self._dashboard.close()

    def _work(self, number: int) -> None:
        rng = random.Random(number)
        began = time.monotonic()

        @ratelimit.compose(self._api, self._inventory, self._db, self._pool)
        def query(ill: bool) -> None:
            time.sleep(rng.uniform(0.004, 0.012))
            if ill and rng.random() < 0.8:
                raise OSError("the database is ill")

        while not self._stop.wait(rng.uniform(0.02, 0.06)):
            # Two thirds of each quarter minute it is well.
            ill = math.fmod(time.monotonic() - began, 15.0) > 10.0
            with suppress(Rejected, OSError):
                query(ill)

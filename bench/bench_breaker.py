"""Cost of a circuit breaker around a call, beside its peers in the same process.

Run: ``PYTHONPATH=src python bench/bench_breaker.py``
"""

from __future__ import annotations

import threading
import time
from time import monotonic

from harness import ns_per_call, table

from hastack.errors import CircuitOpen
from hastack.ratelimit import AdaptiveLimit, CircuitBreaker


def work() -> None:
    pass


def full_breaker(**settings) -> CircuitBreaker:
    """Everything on: time window, slow calls, classes of errors, a minimum."""
    return CircuitBreaker(
        failure_rate=0.5,
        window=10.0,
        min_calls=20,
        slow_call=1.0,
        failures=(OSError, TimeoutError),
        ignore=ValueError,
        **settings,
    )


def admit_and_settle(guard: CircuitBreaker | AdaptiveLimit):
    admit, settle = guard._admit, guard._settle

    def call() -> None:
        permit = admit(monotonic(), (), {})
        work()
        settle(permit, monotonic(), None, None)

    return call


def closed_path() -> None:
    rows: dict[str, float] = {}
    try:
        import pybreaker

        peer = pybreaker.CircuitBreaker(fail_max=5)
        rows["pybreaker call"] = ns_per_call(lambda: peer.call(work))
    except ImportError:
        print("pybreaker is not installed")
    try:
        import circuitbreaker

        rows["circuitbreaker decorated"] = ns_per_call(circuitbreaker.circuit(work))
    except ImportError:
        print("circuitbreaker is not installed")
    try:
        from interlock import CircuitBreaker as Interlock

        rows["interlock-cb decorated"] = ns_per_call(Interlock(name="peer")(work))
    except ImportError:
        print("interlock-cb is not installed")
    rows["hastack admit + settle, two clock readings"] = ns_per_call(
        admit_and_settle(full_breaker())
    )
    dirty = full_breaker()
    for _ in range(200):
        dirty.acquire().success()
    dirty.acquire().failure()
    rows["the same with failures in the window"] = ns_per_call(admit_and_settle(dirty))
    judged = full_breaker(result_failure=lambda result: result is False)
    rows["the same with a result predicate"] = ns_per_call(admit_and_settle(judged))
    direct = full_breaker()
    rows["hastack try_acquire().success()"] = ns_per_call(lambda: direct.try_acquire().success())
    rows["hastack decorated"] = ns_per_call(full_breaker()(work))
    rows["empty call"] = ns_per_call(work)
    base = "pybreaker call" if "pybreaker call" in rows else "hastack decorated"
    table("Breaker, closed", rows, base=base)


def open_path() -> None:
    breaker = full_breaker()
    breaker.force_open()
    admit = breaker._admit

    def refused() -> None:
        try:
            admit(monotonic(), (), {})
        except CircuitOpen:
            pass

    rows = {
        "try_acquire": ns_per_call(breaker.try_acquire),
        "admit, CircuitOpen raised": ns_per_call(refused),
    }
    table("Breaker, open", rows, base="try_acquire")


def adaptive() -> None:
    limit = AdaptiveLimit(initial=100)
    rows = {
        "AdaptiveLimit admit + settle": ns_per_call(admit_and_settle(limit)),
        "AdaptiveLimit decorated": ns_per_call(limit(work)),
    }
    table("Adaptive limit", rows, base="AdaptiveLimit admit + settle")


def five_threads() -> None:
    """The call runs under no lock: five sleeps of 0.1 s take 0.1 s."""
    rows = {}
    guarded = full_breaker()(time.sleep)
    rows["hastack"] = _five(lambda: guarded(0.1))
    try:
        import pybreaker

        peer = pybreaker.CircuitBreaker(fail_max=5)
        rows["pybreaker"] = _five(lambda: peer.call(time.sleep, 0.1))
    except ImportError:
        pass
    table("Five threads x 0.1 s through one closed breaker", rows, base="hastack", unit="ms")


def _five(call) -> float:
    threads = [threading.Thread(target=call) for _ in range(5)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    closed_path()
    open_path()
    adaptive()
    five_threads()

"""A shop whose telemetry survives an outage of its collector.

Run: ``python examples/07-observe/example.py``
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from hastack import config, observe, ratelimit

sys.path.insert(0, str(Path(__file__).parent))
from collector import Collector


def settings(url: str, directory: str) -> config.Config:
    """What would stand in service.toml."""
    return config.load(
        env=None,
        override={
            "observe": {
                "service": "shop",
                "backends": {"collector": {"endpoint": url}},
                "queue": {"when_full": "spill", "max_units": 400, "batch": 50, "linger": "50ms"},
                "spill": {"directory": directory},
            }
        },
    )


def take_orders(installed: observe.Installed, first: int, count: int) -> None:
    tracer = installed.tracer_provider.get_tracer("shop")
    for number in range(first, first + count):
        tracer.start_span(f"order-{number:04d}", attributes={"app.order": number}).end()


def outage(collector: Collector, directory: str) -> None:
    installed = observe.install(settings(collector.url, directory))
    take_orders(installed, 0, 100)
    print("delivered:", bool(installed.force_flush(10.0)))

    collector.down = True
    take_orders(installed, 100, 1900)
    print("in the outage:", installed.pipeline.accounts()["collector-traces"])

    payments = ratelimit.CircuitBreaker(window_calls=2, min_calls=2, name="payments")
    for _ in range(2):
        payments.try_acquire().failure()
    logging.getLogger("shop").warning("payments are down")

    collector.down = False
    report = installed.force_flush(60.0)
    print("after it:", report.accounts["collector-traces"])
    print("once and in order:", collector.orders() == list(range(2000)))
    arrived = b"".join(collector.bodies)
    for what in (b"hastack.breaker_changed", b"payments are down", b"hastack.observe.units"):
        print(f"  {what.decode()}: {'arrived' if what in arrived else 'missing'}")

    collector.down = True
    take_orders(installed, 2000, 500)
    report = installed.shutdown(1.0)
    traces = report.accounts["collector-traces"]
    print(
        f"the end took {report.took:.0f} s; {traces.spilled} spans are on disk, {traces.lost} lost"
    )


def the_next_process(collector: Collector, directory: str) -> None:
    collector.down = False
    installed = observe.install(settings(collector.url, directory), set_global=False)
    take_orders(installed, 2500, 1)
    installed.force_flush(30.0)
    print("the next process:", installed.pipeline.accounts()["collector-traces"])
    print("once and in order:", collector.orders() == list(range(2501)))
    installed.shutdown(5.0)


def main() -> None:
    collector = Collector()
    with tempfile.TemporaryDirectory() as directory:
        outage(collector, directory)
        the_next_process(collector, directory)


if __name__ == "__main__":
    main()

"""Everything on, then a fork: what each object is good for in the child.

As a program: whole_fork.py HOW, with the settings of `Everything` in the environment. As a module,
`app` is what gunicorn serves: each request asks everything, in the worker.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from whole_stack import policy

from hastack import config, context, discovery, ebpf, observe, ratelimit, wasm
from hastack.errors import Cancelled, ClosedError, DeadlineExceeded, ForkUnsafe
from hastack.observe import logs

log = logging.getLogger("suite")


class Everything:
    """A process with everything on, at work on threads."""

    def __init__(self, endpoint, collector, folder, object_file=""):
        self.installed = observe.install(
            observe.ObserveConfig(
                service="suite",
                backends={"main": observe.BackendConfig(endpoint=collector)},
                queue=observe.QueueConfig(linger=0.02),
                metrics_every=3600.0,
            )
        )
        self.tracer = self.installed.tracer_provider.get_tracer("suite")
        self.counter = self.installed.metrics.meter("suite").counter("suite.work")
        self.limit = ratelimit.TokenBucket("1000/s", name="limit")
        self.breaker = ratelimit.CircuitBreaker(window_calls=10, min_calls=5, name="breaker")
        self.registry = discovery.connect(f"etcd://{endpoint}")
        self.registry.subscribe("suite", lambda found: None)
        self.client = self.registry.store.sync
        self.plugin = policy(limits=wasm.Limits(deadline=0.2))
        toml = Path(folder, f"{os.getpid()}.toml")
        toml.write_text('[logs]\npatterns = { shop = "order %{INT:code}" }\n')
        self.watched = config.watch(toml, env=None, period=0.05)
        self.parser = logs.LiveParser(self.watched)
        source = Path(folder, f"{os.getpid()}.log")
        source.touch()
        self.engine = logs.Engine(logs.Follow(source, poll=0.02))
        self.object = self.ring = None
        if object_file:
            self.object = ebpf.load(object_file, programs=["burst"])
            self.ring = self.object.ring("events")
        self.pid = os.getpid()
        self.stop = threading.Event()
        works = [self.work, self.work, self.read_logs, self.read_ring]
        self.threads = [threading.Thread(target=each, daemon=True) for each in works]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def work(self):
        """All kinds of calls, one after the other, so that a fork meets each lock held."""
        with contextlib.suppress(Cancelled, RuntimeError):  # the interpreter ends under it
            self.work_on()

    def work_on(self):
        while not self.stop.is_set():
            with self.limit, context.timeout(5.0), self.tracer.start_as_current_span("parent"):
                self.plugin.allow(b"GET", b"/")
                self.parser.parse_lines(["order 7"] * 20)
                self.client.get("key")
                if self.object is not None:
                    self.object.burst.test_run((3).to_bytes(2, "little") + bytes(62))

    def read_logs(self):
        for _ in self.engine:
            pass

    def read_ring(self):
        for _ in self.ring or ():
            pass

    def end(self):
        self.stop.set()
        self.engine.close()
        if self.object is not None:
            self.object.close()
        for thread in self.threads:
            thread.join(20)
        self.registry.close()
        self.watched.stop()
        self.plugin.close()

    # What is asked in the child -----------------------------------------------------------

    def probes(self):
        return {
            "limit": lambda: bool(self.limit.try_acquire()),
            "breaker": lambda: bool(self.breaker.try_acquire()),
            "deadline": self.probe_deadline,
            "plugin": lambda: self.plugin.allow(b"GET", b"/"),
            "guest that never ends": self.probe_spin,
            "parser": lambda: self.parser.parse("order 7") == {"code": "7"},
            "config": lambda: self.watched.reload() == (),
            "store": lambda: self.client.get("key") is None,
            "registry": self.probe_registry,
            "engine": lambda: next(self.engine),
            "ring": lambda: self.ring is None or self.ring.take() is not None,
            "map": lambda: len(dict(self.object.maps.table.items())) >= 0 if self.object else True,
        }

    def probe_deadline(self):
        rang = threading.Event()
        with context.timeout(0.05) as ctx:
            ctx.after_func(rang.set)
            return rang.wait(10.0)

    def probe_registry(self):
        """In a forked child this is what the parent knew, and how old that is by now."""
        before = self.registry.resolve("suite", timeout=5.0)
        time.sleep(0.05)
        after = self.registry.resolve("suite", timeout=5.0)
        return after.complete and (self.pid == os.getpid() or after.age > before.age)

    def probe_spin(self):
        try:
            with context.timeout(0.1):
                self.plugin.call("spin")
        except DeadlineExceeded:
            return True
        return False

    def ask(self, *, leave_out=()):
        """What each part says: ``ok``, or the kind of its refusal."""
        said = {}
        for name, probe in self.probes().items():
            if name in leave_out:
                continue
            try:
                said[name] = "ok" if probe() else "wrong"
            except (ForkUnsafe, ClosedError) as error:
                said[name] = type(error).__name__
            except Exception as error:
                said[name] = repr(error)
        with self.tracer.start_as_current_span(f"child-{os.getpid()}"):
            log.warning("child %d", os.getpid())
        self.counter.add(1)
        return said


def report(everything, **options):
    """In the child: ask, and say so in one piece; whatever hangs is killed and missing."""
    signal.alarm(40)
    said = everything.ask(**options)
    os.write(1, json.dumps({"pid": os.getpid(), "said": said}).encode() + b"\n")


def fresh(settings):
    """In a child that was not forked: it makes everything itself, and ends it."""
    everything = Everything(**settings).start()
    report(everything, leave_out=["engine"])  # which is being read by a thread of its own
    everything.end()


def main():
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    how, settings = sys.argv[1], json.loads(sys.argv[2])
    everything = Everything(**settings).start()
    time.sleep(0.2)
    for _ in range(3):
        if how == "os.fork":
            if os.fork() == 0:
                report(everything)
                sys.exit(0)
            os.wait()
        elif how == "fork":
            child = multiprocessing.get_context("fork").Process(target=report, args=(everything,))
            child.start()
            child.join()
        else:
            child = multiprocessing.get_context(how).Process(target=fresh, args=(settings,))
            child.start()
            child.join()
            break
    everything.end()


_served = None


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json"), ("Connection", "close")])
    return [json.dumps({"pid": os.getpid(), "said": _served.ask()}).encode()]


if __name__ == "__main__":
    main()
elif "SUITE_SETTINGS" in os.environ:  # in gunicorn's master, before it forks
    _served = Everything(**json.loads(os.environ["SUITE_SETTINGS"])).start()

"""All packages and extras in one process, in any order: nothing of the process is touched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What each extra stands for, beside hastack's own modules.
FOREIGN = (
    *("grpc", "grpc.aio", "google.protobuf.descriptor_pool", "opentelemetry.sdk.trace", "wasmtime"),
    *("cryptography", "cffi", "msgspec", "uvicorn", "starlette", "httpx", "aiohttp", "anyio"),
)
OURS = (
    *("hastack.ratelimit", "hastack.discovery", "hastack.discovery.etcd", "hastack.observe"),
    *("hastack.observe.logs", "hastack.observe.logs.formats", "hastack.wasm", "hastack.ebpf"),
    *("hastack.ebpf.features", "hastack.lifecycle", "hastack.health", "hastack.config"),
    *("hastack.contrib.asgi", "hastack.contrib.wsgi", "hastack.contrib.grpc"),
    *("hastack.contrib.grpc_aio", "hastack.contrib.httpx", "hastack.contrib.aiohttp"),
    *("hastack.contrib.anyio", "hastack.contrib.uvicorn", "hastack.cli"),
)

CHILD = """
import importlib, json, logging, signal, sys, threading, warnings
names = json.loads(sys.argv[1])

def state():
    handlers = {}
    for number in signal.valid_signals():
        handlers[str(number)] = repr(signal.getsignal(number))
    pool = []
    if "google.protobuf.descriptor_pool" in sys.modules:
        from google.protobuf import descriptor_pool
        default = descriptor_pool.Default()
        for name in ("rpc.proto", "kv.proto", "hastack/etcd.proto", "etcd.proto", "auth.proto",
                     "opentelemetry/proto/trace/v1/trace.proto", "logproto.proto"):
            try:
                default.FindFileByName(name)
                pool.append(name)
            except KeyError:
                pass
    return {
        "signals": handlers,
        "pool": pool,
        "logging": [
            logging.root.level,
            [repr(each) for each in logging.root.handlers],
            logging.raiseExceptions,
            repr(logging.getLoggerClass()),
            sorted(n for n, each in logging.root.manager.loggerDict.items()
                   if n.startswith("hastack") and getattr(each, "handlers", None)),
        ],
        "warnings": [repr(each) for each in warnings.filters],
        "showwarning": warnings.showwarning.__module__,
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook)],
        "path": sys.path,
        "threads": sorted(each.name for each in threading.enumerate()),
    }

foreign, ours = names
for name in foreign:  # what they do to the process is theirs
    importlib.import_module(name)
before = state()
for name in ours:
    importlib.import_module(name)
after = state()

# A look at everything public, which loads what is lazy.
for name in ours:
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", ()):
        getattr(module, each)
last = state()

from hastack import ratelimit, wasm
from hastack.discovery import etcd
from hastack.observe import logs
assert ratelimit.TokenBucket("1/s").try_acquire()
assert logs.parse("level=info took=7") == {"level": "info", "took": 7}
etcd.Client("127.0.0.1:1").sync.close()
code = wasm.wat('(module (func (export "f") (result i32) (i32.const 7)))')
with wasm.load(code, trust=wasm.Unsigned(), isolate_compiler=False) as plugin:
    assert plugin.call("f") == 7
print(json.dumps([before, after, last]))
"""


def run(foreign, ours, *options):
    done = subprocess.run(
        [sys.executable, *options, "-c", CHILD, json.dumps([foreign, ours])],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def available(names):
    from importlib.util import find_spec

    return [name for name in names if find_spec(name.partition(".")[0])]


@pytest.mark.parametrize("seed", range(3))
def test_importing_everything_in_any_order_touches_nothing_of_the_process(seed):
    chance = random.Random(seed)
    foreign, ours = available(FOREIGN), list(OURS)
    chance.shuffle(ours)
    chance.shuffle(foreign)
    before, after, last = run(foreign, ours)
    for now in (after, last):
        # aiohttp adds a filter for a warning of its own.
        now["warnings"] = [each for each in now["warnings"] if "'aiohttp." not in each]
        assert now == before


def test_hastack_first_and_the_others_after_it():
    """Whoever comes later finds what they would have found."""
    ours = list(OURS)
    before, after, last = run([], ours + available(FOREIGN), "-W", "error::ImportWarning")
    assert last["pool"] == after["pool"]
    assert [
        name for name in last["pool"] if "etcd" in name or name in {"rpc.proto", "kv.proto"}
    ] == []
    for what in ("signals", "hooks", "path"):
        assert last[what] == before[what]
    assert last["logging"][-1] == []

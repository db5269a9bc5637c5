"""One reload reaches limits, plugins, log formats and exporters, all of them or none."""

from __future__ import annotations

import json
import logging
import threading

import pytest

pytest.importorskip("wasmtime")
pytest.importorskip("parsy")

from otlp_servers import HttpServer

from hastack import config, events, observe, ratelimit, wasm
from hastack.errors import ClosedError, ConfigError, GuestDeadline, InvalidArgument
from hastack.observe import logs

SPIN = '(func (export "spin") (loop (br 0)))'


def module(number: int) -> bytes:
    return wasm.wat(
        f'(module (memory (export "memory") 1) (func (export "v") (result i32) (i32.const {number}))'
        f'(func (export "on_http_request") (param i32 i32 i32) (result i32) (i32.const 1)) {SPIN})'
    )


TOML = """
[ratelimit.api]
rate = "{rate}"

[wasm.plugins.policy]
path = "{module}"
deadline = "{deadline}"
signers = {{ ada = "{key}" }}

[logs]
patterns = {{ shop = "{pattern}" }}
schemas = "{schemas}"

[observe]
service = "suite"
metrics_every = "1h"
backends = {{ main = {{ endpoint = "{collector}", timeout = "{timeout}" }} }}
queue = {{ linger = "{linger}", max_units = {units}, shards = {shards} }}
"""


class Service:
    """Everything that follows one file."""

    def __init__(self, folder, collector):
        self.path = folder / "hastack.toml"
        self.folder = folder
        self.keys = {name: wasm.PrivateKey.generate() for name in ("ada", "eve")}
        for name, key in self.keys.items():
            (folder / f"{name}.pem").write_bytes(key.public.to_pem())
        for number in (1, 2):
            (folder / f"{number}.wasm").write_bytes(wasm.sign(module(number), self.keys["ada"]))
        (folder / "eve.wasm").write_bytes(wasm.sign(module(3), self.keys["eve"]))
        for name, value in (("int", "7"), ("str", "x7")):
            logs.infer({"shop": [{"code": value}]}).save(folder / f"{name}.json")
        self.values = {
            "rate": "2/h", "module": folder / "1.wasm", "deadline": "20s",
            "key": folder / "ada.pem", "pattern": "order %{INT:code}",
            "schemas": folder / "int.json", "collector": collector.url, "timeout": "5s",
            "linger": "10ms", "units": 1000, "shards": 2,
        }  # fmt: skip
        self.write()
        self.watched = config.watch(self.path, env=None)
        self.watched.stop()  # the test reloads by hand
        self.limit = ratelimit.live(self.watched, "api")
        self.plugin = wasm.live(self.watched, "policy")
        self.parser = logs.LiveParser(self.watched)
        self.installed = observe.install(self.watched.current, set_global=False)
        self.installed.follow(self.watched)

    def write(self, **changes):
        self.values.update(changes)
        self.path.write_text(TOML.format(**self.values))

    def state(self):
        exporter = self.installed.pipeline.of("logs")[0]
        batch = self.parser.parse_lines(["order 7", "sale 7"])
        return {
            "plugin": self.plugin.call("v"),
            "deadline": self.plugin._active.plugin.limits.deadline,
            "records": batch.records,
            "timeout": exporter._timeout,
            "units": exporter._flow.bound.max_units,
            "config": self.watched.current,
        }

    def close(self):
        self.plugin.close()
        self.parser.close()
        self.installed.shutdown(5.0)
        self.watched.stop()


@pytest.fixture
def service(tmp_path):
    with HttpServer() as collector:
        made = Service(tmp_path, collector)
        try:
            yield made
        finally:
            made.close()


def test_one_reload_reaches_every_part_without_a_restart(service):
    before = service.state()
    assert before["plugin"] == 1
    assert before["records"] == [{"code": 7}]
    assert [bool(service.limit.try_acquire()) for _ in range(3)] == [True, True, False]
    service.write(
        rate="1000/s", module=service.folder / "2.wasm", deadline="30ms",
        pattern="sale %{INT:code}", schemas=service.folder / "str.json", timeout="7s",
        linger="20ms", units=2000,
    )  # fmt: skip
    changed = service.watched.reload()
    assert {path.partition(".")[0] for path in changed} == {"ratelimit", "wasm", "logs", "observe"}
    after = service.state()
    assert after["plugin"] == 2
    assert after["records"] == [{"code": "7"}]  # another format, and what its schema says
    assert (after["timeout"], after["units"]) == (7.0, 2000)
    with pytest.raises(GuestDeadline):
        service.plugin.call("spin")
    with service.limit:
        pass
    assert service.parser.counts.lines == 4  # counted on
    # The exporter that was retuned delivers.
    service.installed.logger_provider.get_logger("suite")
    assert service.installed.force_flush(20.0)


BAD = {
    "limit": ({"rate": "fast"}, "ratelimit.api.rate"),
    "not signed by ada": ({"module": "eve.wasm"}, "wasm.plugins.policy"),
    "no such module": ({"module": "none.wasm"}, "wasm.plugins.policy"),
    "no such key": ({"key": "none.pem"}, "wasm.plugins.policy"),
    "limits too small": ({"deadline": "-1s"}, "wasm.plugins.policy.deadline"),
    "no pattern": ({"pattern": "%{NOSUCH:code}"}, "logs"),
    "no schemas": ({"schemas": "ada.pem"}, "logs"),
    "log level": ({"shards": '2 }\nlog_level = "LOUD"\nresource = { a = "b"'}, "observe"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_one_changes_nothing_and_says_why(service, what):
    change, path = BAD[what]
    before = service.state()
    version, first = service.plugin._active, dict(service.values)
    for name in ("module", "key", "schemas"):
        if name in change:
            change = {**change, name: service.folder / change[name]}
    # Everything else in it would be good.
    good = {"rate": "5/s", "module": service.folder / "2.wasm", "timeout": "9s", "units": 3000,
            "pattern": "sale %{INT:code}"}  # fmt: skip
    service.write(**{**good, **change})
    with events.record() as seen, pytest.raises(ConfigError) as caught:
        service.watched.reload()
    assert [mistake.path for mistake in caught.value.exceptions] == [path]
    (failed,) = [each for each in seen if isinstance(each, config.ConfigReloadFailed)]
    assert failed.mistakes[0].path == path
    after = service.state()
    assert after == before
    assert service.plugin._active is version
    # And the file that was there before is good again.
    service.write(**first)
    assert service.watched.reload() == ()


def test_what_needs_a_restart_is_named_and_the_rest_is_followed(service, caplog):
    service.write(shards=3, units=500)
    with caplog.at_level(logging.WARNING, "hastack.observe"):
        service.watched.reload()
    assert "only after a restart: observe.queue.shards" in caplog.text
    assert service.state()["units"] == 500


def test_calls_go_on_while_it_is_reloaded(service):
    """Each call and each batch sees one configuration, never half of two."""
    stop, wrong, calls = threading.Event(), [], [0]

    def work():
        while not stop.is_set():
            batch = service.parser.parse_lines(["order 1", "sale 2"])
            if len(batch.records) != 1 or service.plugin.call("v") not in {1, 2}:
                wrong.append(batch.records)
            calls[0] += 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            pattern = ("order", "sale")[number % 2] + " %{INT:code}"
            service.write(module=service.folder / f"{1 + number % 2}.wasm", pattern=pattern)
            service.watched.reload()
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not wrong
    assert calls[0]


def test_the_ends_of_following(service):
    service.plugin.close()
    service.parser.close()
    service.write(module=service.folder / "eve.wasm", pattern="%{NOSUCH:x}", rate="7/s")
    service.watched.reload()  # nobody is left to refuse it
    with pytest.raises(ClosedError):
        service.plugin.call("v")
    for make in (lambda: wasm.live(service.watched, "none"), lambda: wasm.live(None, "policy")):
        with pytest.raises(InvalidArgument):
            make()
    with pytest.raises(InvalidArgument):
        logs.LiveParser(None)
    with pytest.raises(InvalidArgument):
        service.installed.follow(None)
    with pytest.raises(InvalidArgument, match="worker processes"):
        import pickle

        pickle.dumps(service.parser)
    assert json.dumps(service.parser.parse("order 5"))

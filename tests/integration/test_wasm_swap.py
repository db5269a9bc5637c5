"""Changing plugins under load, after failures and across the death of the process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from pathlib import Path

import pytest
from wasm_guests import LONG

from hastack import events, wasm
from hastack.errors import (
    AuditBroken,
    ClosedError,
    InvalidArgument,
    NotTrusted,
    Trap,
    WasmError,
)
from hastack.wasm import Floors, Plan, PrivateKey, Signer, Swap, Trust, sign, with_manifest

KEY = PrivateKey.generate()


def version(number: int, *, bad: bool = False) -> bytes:
    """Answers its number twice; the two come from one instance, whatever is changed meanwhile."""
    body = "unreachable" if bad else f"(i32.const {number}) (i32.const {number})"
    return wasm.wat(f"""(module (memory (export "memory") 1)
        (func (export "v") (result i32 i32) {body})
        (func (export "on_http_request") (param i32 i32 i32) (result i32)
          {"unreachable" if bad else f"(i32.const {number & 1})"}))""")


def swap(**options) -> Swap:
    options.setdefault("trust", wasm.Unsigned())
    options.setdefault("limits", LONG)
    return Swap("demo", **options)


def test_two_hundred_changes_under_load_lose_nothing() -> None:
    count = int(os.environ.get("HASTACK_WASM_SWAPS", "200"))
    stop, wrong, calls = threading.Event(), [], [0] * 3
    with swap(isolate_compiler=False) as plugin:
        plugin.offer(version(0))

        def load(number: int) -> None:
            newest = 0
            while not stop.is_set():
                try:
                    one, other = plugin.call("v")
                except Exception as error:
                    wrong.append(error)
                    return
                if one != other or one < newest:
                    wrong.append((one, other, newest))
                newest = one
                calls[number] += 1

        threads = [threading.Thread(target=load, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        resident = []
        for number in range(1, count + 1):
            plugin.offer(version(number))
            if number in {count // 4, count}:
                gc.collect()
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        stop.set()
        for thread in threads:
            thread.join(50)
        assert not wrong
        assert min(calls) > 0
        assert plugin.call("v") == (count, count)
        assert resident[1] - resident[0] < 24 << 20


def test_a_new_version_goes_through_its_plan() -> None:
    plan = Plan(shadow=3, differences=3, canary=4, share=0.5, trial=2)
    with swap(plan=plan) as plugin, events.record(wasm.PluginSwapped) as swapped:
        plugin.offer(version(1))  # the first has nothing to be compared with
        assert plugin.phase is None
        plugin.offer(version(2))
        plugin.offer(version(2))  # the same again changes nothing
        assert plugin.phase == "shadow"
        answers = [plugin.call("v")[0] for _ in range(9)]
        assert answers == [1, 1, 1, 1, 2, 1, 2, 2, 2]
        assert plugin.phase is None
        assert plugin.call("v") == (2, 2)
    assert len(swapped) == 2


def test_a_version_that_fails_is_taken_back_and_nobody_notices() -> None:
    for plan in (
        Plan(shadow=5),
        Plan(canary=10, share=0.5),
        Plan(trial=5),
    ):
        with swap(plan=plan) as plugin, events.record(wasm.PluginRolledBack) as back:
            plugin.offer(version(1))
            plugin.offer(version(2, bad=True))
            assert [plugin.call("v") for _ in range(12)] == [(1, 1)] * 12
            assert plugin.phase is None
            assert len(back) == 1
            assert "calls failed" in back[0].detail
            assert back[0].digest == plugin.digest
    with swap(plan=Plan(shadow=3)) as plugin:
        plugin.offer(version(1))
        plugin.offer(version(3))
        assert [plugin.call("v")[0] for _ in range(5)] == [1] * 5  # its answers differed


def test_what_is_not_healthy_does_not_take_over() -> None:
    asked = []

    def health(plugin: wasm.Plugin) -> bool:
        asked.append(plugin.call("v"))
        return asked[-1] != (2, 2)

    with swap(health=health) as plugin, events.record(wasm.PluginRefused) as refused:
        plugin.offer(version(1))
        with pytest.raises(WasmError, match="not healthy"):
            plugin.offer(version(2))
        with pytest.raises(Trap):
            plugin.offer(version(3, bad=True))
        assert plugin.call("v") == (1, 1)
        assert len(refused) == 2

    turns = iter([True, True, True, False])
    with swap(health=lambda plugin: next(turns), plan=Plan(trial=2)) as plugin:
        plugin.offer(version(1))
        plugin.offer(version(2))
        assert [plugin.call("v")[0] for _ in range(4)] == [2, 2, 1, 1]  # well, until it had to last


def test_what_cannot_be_loaded_changes_nothing() -> None:
    with swap() as plugin:
        with pytest.raises(WasmError, match="no version"):
            plugin.call("v")
        plugin.offer(version(1))
        for wrong in (b"no module", wasm.wat('(module (import "a" "b" (func)))')):
            with pytest.raises(WasmError):
                plugin.offer(wrong)
        assert plugin.call("v") == (1, 1)
        with pytest.raises(InvalidArgument):
            plugin.call("absent")
        assert asyncio.run(plugin.call_async("v")) == (1, 1)
    with pytest.raises(ClosedError):
        plugin.call("v")
    with pytest.raises(ClosedError):
        plugin.offer(version(2))
    for wrong in ({"fail": "ajar"}, {"name": ""}):
        with pytest.raises(InvalidArgument):
            Swap(**{"name": "x", "trust": wasm.Unsigned(), **wrong})


def test_a_policy_that_fails_says_what_was_agreed() -> None:
    for fail, expected in (("closed", False), ("open", True), ("reload", False)):
        with swap(fail=fail) as plugin:
            plugin.offer(version(0, bad=True))
            assert plugin.allow(b"GET", b"/") is expected
    with swap() as plugin:
        plugin.offer(version(1))
        assert plugin.allow(b"GET", b"/")
        plugin.offer(version(2))
        assert not plugin.allow(b"GET", b"/")
    once = wasm.wat("""(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
        (func (export "on_http_request") (param i32 i32 i32) (result i32)
          (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (if (i32.eq (local.get 2) (i32.const 2)) (then unreachable))
          (i32.eq (global.get $n) (i32.const 1))))""")
    with swap(fail="reload", warm=0, instances=1) as plugin:
        plugin.offer(once)
        assert plugin.allow(b"GET", b"/")
        assert not plugin.allow(b"GET", b"xx")
        assert not plugin.allow(b"GET", b"/")  # it waits, and says no meanwhile
        ends = time.monotonic() + 20.0
        while not plugin.allow(b"GET", b"/"):
            assert time.monotonic() < ends
            time.sleep(0.02)


def test_a_directory_is_looked_at(tmp_path: Path) -> None:
    place = tmp_path / "demo.wasm"
    trust = Trust([Signer(KEY.public, "ada")])
    with swap(trust=trust) as plugin, events.record(wasm.PluginRefused) as refused:
        assert not plugin.look(tmp_path)
        place.write_bytes(version(1))
        with pytest.raises(NotTrusted):
            plugin.look(tmp_path)
        assert not plugin.look(tmp_path)  # known, and refused
        (tmp_path / "demo.sig").write_bytes(sign(version(1), KEY, detached=True))
        assert plugin.look(tmp_path)
        assert plugin.call("v") == (1, 1)
        (tmp_path / "demo.sig").unlink()
        end = plugin.watch(tmp_path, every=0.01)
        place.write_bytes(sign(version(2), KEY))
        ends = time.monotonic() + 20.0
        while plugin.call("v") != (2, 2):
            assert time.monotonic() < ends
            time.sleep(0.01)
        end()
        assert refused
        with pytest.raises(InvalidArgument, match="every"):
            plugin.watch(tmp_path, every=0)


def test_any_function_may_be_where_versions_come_from(caplog) -> None:
    trust = Trust([Signer(KEY.public, "ada")])
    there: list[object] = [None]

    def source() -> object:
        if isinstance(there[0], Exception):
            raise there[0]
        return there[0]

    with swap(trust=trust) as plugin:
        assert not plugin.look(source)
        there[0] = version(1), sign(version(1), KEY, detached=True)
        assert plugin.look(source)
        assert not plugin.look(source)
        end = plugin.watch(source, every=0.01)
        there[0] = ValueError("the shelf is empty")
        ends = time.monotonic() + 20.0
        while not caplog.records:
            assert time.monotonic() < ends
            time.sleep(0.01)
        there[0] = sign(version(2), KEY)
        while plugin.call("v") != (2, 2):
            assert time.monotonic() < ends
            time.sleep(0.01)
        end()
    assert len(caplog.records) == 1  # told once, however often it failed


def test_the_last_good_version_is_there_after_a_restart(tmp_path: Path) -> None:
    floors = Floors(tmp_path / "floors.json")
    trust = Trust([Signer(KEY.public, "ada")], floors=floors)

    def signed(number: int, *, bad: bool = False) -> bytes:
        return sign(with_manifest(version(number, bad=bad), name="demo", svn=number), KEY)

    options = {"trust": trust, "state": tmp_path / "state", "plan": Plan(trial=2)}
    with swap(**options) as plugin:
        plugin.offer(signed(1))
        plugin.offer(signed(2))
        assert floors.floor("demo") == 1  # what is on trial lifts nothing
    with swap(**options) as plugin, events.record(wasm.PluginEvent):
        assert plugin.call("v") == (1, 1)  # it had not proved itself
        plugin.offer(signed(2))
        assert [plugin.call("v")[0] for _ in range(3)] == [2, 2, 2]
        assert floors.floor("demo") == 2
        with pytest.raises(NotTrusted, match="security version 1"):
            plugin.offer(signed(1))
        plugin.offer(signed(3, bad=True))
        assert plugin.call("v") == (2, 2)
        assert len(list((tmp_path / "state").glob("*.wasm"))) == 1
    with swap(**options) as plugin:
        assert plugin.call("v") == (2, 2)
    (kept,) = (tmp_path / "state").glob("*.wasm")
    kept.write_bytes(signed(5))
    with pytest.raises(WasmError, match="not what was kept"):
        swap(**options)
    (tmp_path / "state" / "state.json").write_bytes(b"{")
    with pytest.raises(WasmError, match="cannot be read"):
        swap(**options)


def dies_while_it_writes(folder: Path, left: int, *, bad: bool) -> int:
    """Offer a version in a child that ends itself at one of the system calls of writing."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        plugin = swap(state=folder, plan=Plan(trial=2), isolate_compiler=False)

        def dying(real):
            def call(*args, **options):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return real(*args, **options)

            return call

        for name in ("open", "fsync", "fdopen"):
            setattr(os, name, dying(getattr(os, name)))
        for name in ("replace", "unlink"):
            setattr(Path, name, dying(getattr(Path, name)))
        plugin.offer(version(2, bad=bad))
        for _ in range(3):
            plugin.call("v")
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("kind", ["bad", "good"])
def test_killed_at_any_write_it_comes_back_with_one_that_is_good(tmp_path: Path, kind: str) -> None:
    found = []
    for left in (*range(0, 24, 3), 100):
        folder = tmp_path / str(left)
        with swap(state=folder) as plugin:
            plugin.offer(version(1))
        status = dies_while_it_writes(folder, left, bad=kind == "bad")
        assert status in {0, 9}
        with swap(state=folder) as plugin:
            found.append((status, plugin.call("v")[0]))
        assert len(list(folder.glob("*.wasm"))) == 1
    assert found[0] == (9, 1)
    assert found[-1] == (0, 1 if kind == "bad" else 2)
    assert {number for _, number in found} == ({1} if kind == "bad" else {1, 2})


def test_everything_is_written_down(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with wasm.Audit(path, key=KEY, every=4) as audit:
        with pytest.raises(InvalidArgument, match="no process writes"):
            wasm.Audit(path)
        with swap(plan=Plan(trial=1)) as plugin:
            plugin.offer(version(1))
            plugin.offer(version(2, bad=True))
            plugin.call("v")
            with pytest.raises(WasmError):
                plugin.offer(b"no module")
        assert audit.errors == 0
    text = path.read_text()
    for name in ("Compiled", "Activated", "Swapped", "Trapped", "RolledBack", "Refused"):
        assert f"Plugin{name}" in text, name
    found = wasm.audit_verify(path, [KEY.public])
    assert found.signed == found.lines > 8
    with path.open("ab") as file:
        file.write(b'{"half a line')
    with wasm.Audit(path, key=KEY), swap() as plugin:
        plugin.offer(version(1))
    assert wasm.audit_verify(path, [KEY.public]).lines > found.lines
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"Plugin", b"plugin")
    path.write_bytes(b"".join(lines))
    with pytest.raises(AuditBroken) as caught:
        wasm.audit_verify(path, [KEY.public])
    assert caught.value.line == 6
    with pytest.raises(AuditBroken):
        wasm.Audit(path)
    plain = tmp_path / "plain.jsonl"
    with wasm.Audit(plain), swap() as plugin:
        plugin.offer(version(1))
    assert wasm.audit_verify(plain).signed == 0
    with pytest.raises(AuditBroken, match="no signed head"):
        wasm.audit_verify(plain, [KEY.public])

"""WASI commands and Extism plug-ins, built from C, on the real engine."""

from __future__ import annotations

import asyncio
import time

import pytest
from wasm_guests import LONG, guest

from hastack import wasm
from hastack.errors import (
    GuestDeadline,
    GuestFailed,
    InvalidArgument,
    OutOfBounds,
    Trap,
    WasmError,
)


def command(**options) -> wasm.Plugin:
    options.setdefault("limits", LONG)
    return wasm.load(guest("command.c"), trust=wasm.Unsigned(), **options)


def test_a_command_gets_arguments_and_environment() -> None:
    settings = wasm.Wasi(args=["me", "all", "ünï"], env={"A": "1", "B": "zwei"})
    with command(wasi=settings) as plugin:
        assert plugin.abi == "wasi"
        done = plugin.run()
        assert done.stdout.decode().splitlines() == ["3", "me", "all", "ünï", "A=1", "B=zwei"]
        assert (done.status, done.stderr) == (0, b"done")
        assert plugin.run(args=["x"]).stdout.decode().splitlines()[:2] == ["1", "x"]
        assert plugin.instances == 0  # each run is an instance of its own
        assert plugin.run(args=["x", "cat"], stdin=b"some lines\n" * 100).stdout == (
            b"some lines\n" * 100
        )


def test_status_and_exit() -> None:
    with command() as plugin:
        assert plugin.run(args=["x", "exit"]).status == 0
        assert plugin.run(args=["x", "exit", "7"]).status == 7
        assert plugin.run(args=["x", "files"]) == wasm.Output(0, b"1000000\n", b"")


def test_sleeping_honours_the_deadline() -> None:
    with command() as plugin:
        assert plugin.run(args=["x", "sleep"]).status == 0
    with command(limits=wasm.Limits(deadline=0.1)) as plugin:
        begun = time.monotonic()
        with pytest.raises(GuestDeadline):
            plugin.run(args=["x", "ss"])
        assert 0.1 <= time.monotonic() - begun < 20.0

        async def main() -> None:
            with pytest.raises(WasmError, match="event loop"):
                await plugin.call_async("_start")

    with command(wasi=wasm.Wasi(args=["x", "ss"])) as plugin:
        asyncio.run(main())


def test_random_numbers_can_be_repeated() -> None:
    with command(wasi=wasm.Wasi(seed=5)) as one, command() as other:
        first = one.run(args=["x", "random"]).stdout
        assert len(first) == 16
        assert one.run(args=["x", "random"]).stdout == first
        assert other.run(args=["x", "random"]).stdout != first


def test_what_a_command_writes_is_bounded() -> None:
    with command(limits=wasm.Limits(deadline=20.0, output_bytes="64KiB")) as plugin:
        with pytest.raises(WasmError, match="output_bytes"):
            plugin.run(args=["x", "write"])
        with pytest.raises(OutOfBounds):
            plugin.run(args=["x", "beyond"])
        with pytest.raises(WasmError, match="random bytes"):
            plugin.run(args=["x", "more"])


def test_what_is_no_command_does_not_run() -> None:
    with wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=LONG) as plugin:
        with pytest.raises(InvalidArgument, match="no _start"):
            plugin.run()
    trapping = wasm.wat('(module (func (export "_start") unreachable))')
    with wasm.load(trapping, trust=wasm.Unsigned(), limits=LONG) as plugin:
        with pytest.raises(Trap):
            plugin.run()
    for wrong in ({"args": [5]}, {"args": ["a\0b"]}, {"env": {"A": 5}}, {"clock": 0}):
        with pytest.raises(InvalidArgument):
            wasm.Wasi(**wrong)


def extism(**options) -> wasm.Plugin:
    options.setdefault("limits", LONG)
    return wasm.load(guest("plugin.c"), trust=wasm.Unsigned(), **options)


def test_extism_plugins_take_bytes_and_give_bytes() -> None:
    with extism() as plugin:
        assert plugin.abi == "extism"
        assert plugin.call("echo", b"hello") == b"hello"
        assert plugin.call("echo", "text") == b"text"
        assert plugin.call("echo") == b""
        large = bytes(range(256)) * 4096
        assert plugin.call("echo", large) == large
        assert plugin.call("count_vowels", b"Hello, World!") == b"3"
        assert plugin.call("add", 2, 3) == 5
        assert asyncio.run(_beside(plugin)) == b"from a loop"
        for wrong in [(b"a", b"b"), (5,)]:
            with pytest.raises(InvalidArgument):
                plugin.call("echo", *wrong)
        with pytest.raises(InvalidArgument, match="input"):
            plugin.call("echo", bytes(5 << 20))


async def _beside(plugin: wasm.Plugin) -> bytes:
    return await plugin.call_async("echo", b"from a loop")


def test_extism_errors_configuration_and_variables() -> None:
    with extism(config={"greeting": "good day"}) as plugin:
        with pytest.raises(GuestFailed, match="it went wrong"):
            plugin.call("fail")
        with pytest.raises(GuestFailed, match=r"returned 3"):
            plugin.call("fail_silently")
        assert plugin.instances == 1  # a plug-in that says no is as good as before
        assert plugin.call("configured") == b"good day"
        assert [plugin.call("counted") for _ in range(3)] == [b"#", b"##", b"###"]
        plugin.call("forget")
        assert plugin.call("counted") == b"#"
    with extism() as plugin, pytest.raises(GuestFailed, match="returned 1"):
        plugin.call("configured")


def test_extism_plugins_cannot_reach_the_kernel() -> None:
    with extism() as plugin:
        for name in ("escape", "escape_far", "read_beyond"):
            with pytest.raises(Trap):
                plugin.call(name)
        with pytest.raises(OutOfBounds):
            plugin.call("lie")
        with pytest.raises(GuestFailed, match="returned"):
            plugin.call("fail_silently")
        assert plugin.call("no_length") == b""
        assert plugin.call("hoard") == b""  # it gets no more than its limit
        assert plugin.call("echo", b"still there") == b"still there"
        with pytest.raises(WasmError, match="HTTP"):
            plugin.call("web")
    with extism(limits=wasm.Limits(deadline=20.0, memory="256KiB")) as plugin:
        with pytest.raises(WasmError, match="no place"):
            plugin.call("echo", bytes(1 << 20))


def test_a_policy_may_be_a_wasi_module_as_well() -> None:
    both = wasm.wat("""(module
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "on_http_request") (param i32 i32 i32) (result i32)
          (i32.eqz (call 0 (i32.const 0) (i32.const 8)))))""")
    with wasm.load(both, trust=wasm.Unsigned(), limits=LONG, wasi=wasm.Wasi(seed=1)) as plugin:
        assert plugin.abi == "http"
        assert plugin.allow(b"GET", b"/")

"""Calls of real guests through the real engine: values, places, traps, threads, processes."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wasm_guests import LONG, guest

from hastack import context, events, wasm
from hastack.errors import (
    ClosedError,
    CompileFailed,
    DeadlineExceeded,
    GuestDeadline,
    InvalidArgument,
    InvalidModule,
    ModuleRefused,
    OutOfBounds,
    OutOfFuel,
    PoolExhausted,
    Trap,
    UnresolvedImports,
    WasmError,
)
from hastack.wasm._reader import sections

KIT = {
    "echo": "(bytes) -> bytes",
    "shout": "(str) -> str",
    "length": "(cstr) -> i32",
    "beyond": "(i32) -> bytes",
}


def kit(**options) -> wasm.Plugin:
    options.setdefault("limits", LONG)
    options.setdefault("functions", KIT)
    return wasm.load(guest("kit.c"), trust=wasm.Unsigned(), **options)


def test_numbers_go_in_and_come_out() -> None:
    with kit() as plugin:
        assert plugin.call("add", 2, 3) == 5
        assert plugin.call("add", 2**31 - 1, 1) == -(2**31)
        assert plugin.call("add", 2**32 - 1, 2) == 1
        assert plugin.call("add64", 2**62, 2**62) == -(2**63)
        assert plugin.call("half", 3) == 1.5
        assert plugin.call("half32", 3.0) == 1.5
        assert plugin.call("nothing") is None
        for wrong in [("add", 1), ("add", 1, 2, 3), ("add", 1, "2"), ("add", 1, 2.0)]:
            with pytest.raises(InvalidArgument):
                plugin.call(*wrong)
        assert plugin.instances == 1  # a wrong argument does not cost an instance


def test_bytes_and_strings_go_in_and_come_out() -> None:
    with kit() as plugin:
        assert plugin.call("echo", b"") == b""
        assert plugin.call("echo", bytearray(b"a\0b")) == b"a\0b"
        assert plugin.call("shout", "grüß") == "GRüß"
        assert plugin.call("length", "four") == 4
        large = os.urandom(1 << 20)
        assert plugin.call("echo", large) == large
        assert plugin.call("echo", b"small again") == b"small again"
        for wrong in [("echo", "text"), ("shout", b"bytes"), ("length", "a\0b"), ("echo", 5)]:
            with pytest.raises(InvalidArgument):
                plugin.call(*wrong)
        with pytest.raises(InvalidArgument, match=r"Limits\.input_bytes"):
            plugin.call("echo", bytes(5 << 20))


def test_places_outside_of_memory_are_an_error_and_cost_the_instance() -> None:
    with kit() as plugin:
        with pytest.raises(OutOfBounds) as caught:
            plugin.call("beyond", 100)
        assert (caught.value.pointer, caught.value.length) == (0xFFFFFFF0, 100)
        with pytest.raises(WasmError, match="at most"):
            plugin.call("beyond", 2**32 - 1)
        assert plugin.instances == 0
    text = wasm.wat("""(module (memory (export "memory") 1) (data (i32.const 0) "\\ff\\fe")
        (func (export "f") (result i32 i32) (i32.const 0) (i32.const 2)))""")
    with (
        wasm.load(text, trust=wasm.Unsigned(), functions={"f": "() -> str"}, limits=LONG) as plugin,
        pytest.raises(WasmError, match="UTF-8"),
    ):
        plugin.call("f")


def test_memory_that_may_not_grow_is_asked_for_a_place() -> None:
    fixed = """(module (memory (export "memory") 2 2)
      (func (export "malloc") (param i32) (result i32) (i32.const {at}))
      (func (export "echo") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1)))"""
    functions = {"echo": "(bytes) -> bytes"}

    def load(text: str) -> wasm.Plugin:
        return wasm.load(wasm.wat(text), trust=wasm.Unsigned(), functions=functions, limits=LONG)

    with load(fixed.format(at=65536)) as plugin:
        assert plugin.call("echo", b"hello") == b"hello"
    with load(fixed.format(at=131000)) as plugin, pytest.raises(OutOfBounds):
        plugin.call("echo", b"hello")
    with load(fixed.format(at=0)) as plugin, pytest.raises(WasmError, match="no place"):
        plugin.call("echo", b"hello")
    with load(fixed.replace("malloc", "other").format(at=0)) as plugin:
        with pytest.raises(WasmError, match="no malloc"):
            plugin.call("echo", b"hello")


def test_what_a_guest_may_not_do_is_a_trap_with_a_name() -> None:
    with kit() as plugin, events.record(wasm.PluginTrapped) as seen:
        for call, code in [
            (("trap",), "unreachable"),
            (("divide", 1, 0), "integer_division_by_zero"),
            (("divide", -(2**31), -1), "integer_overflow"),
            (("peek", 2**31), "memory_out_of_bounds"),
            (("recurse", 0), "stack_overflow"),
        ]:
            with pytest.raises(Trap) as caught:
                plugin.call(*call)
            assert caught.value.code == code
            assert plugin.instances == 0
        assert plugin.call("add", 1, 1) == 2
    assert len(seen) == 5
    assert seen[0].digest == plugin.digest


def test_state_stays_in_an_instance_and_never_in_a_fresh_one() -> None:
    with kit() as plugin:
        assert [plugin.call("count") for _ in range(3)] == [1, 2, 3]
    with kit(fresh=True) as plugin:
        assert [plugin.call("count") for _ in range(3)] == [1, 1, 1]
        assert plugin.instances == 0


def test_a_guest_that_runs_too_long_is_stopped() -> None:
    with kit(limits=wasm.Limits(deadline=0.05)) as plugin:
        begun = time.monotonic()
        with pytest.raises(GuestDeadline) as caught:
            plugin.call("spin")
        assert 0.05 <= time.monotonic() - begun < 10.0
        assert isinstance(caught.value, TimeoutError)
        assert plugin.instances == 0


def test_the_deadline_of_the_context_counts_when_it_is_earlier() -> None:
    with kit() as plugin:
        with context.timeout(0.05), pytest.raises(DeadlineExceeded):
            plugin.call("spin")
        with context.timeout(30.0) as ctx:
            assert plugin.call("add", 1, 2) == 3
            ctx.cancel("enough")
            with pytest.raises(Exception, match="enough"):
                plugin.call("add", 1, 2)


def test_a_start_function_that_does_not_end_is_stopped() -> None:
    endless = wasm.wat("(module (func $s (loop br 0)) (start $s))")
    with pytest.raises(GuestDeadline):
        wasm.load(endless, trust=wasm.Unsigned(), limits=wasm.Limits(deadline=0.05))


def test_fuel_is_the_same_for_each_call() -> None:
    def most(plugin: wasm.Plugin) -> int:
        low, high = 0, 100_000
        while low + 1 < high:
            middle = (low + high) // 2
            try:
                plugin.call("work", middle)
                low = middle
            except OutOfFuel:
                high = middle
        return low

    with kit(limits=wasm.Limits(deadline=20.0, fuel=100_000)) as plugin:
        found = most(plugin)
        assert 0 < found < 100_000
        assert most(plugin) == found


def test_memory_is_limited_over_all() -> None:
    with kit(limits=wasm.Limits(deadline=20.0, memory="2MiB")) as plugin:
        assert plugin.call("grow", 1) == 2
        assert plugin.call("grow", 40) == -1
    many = "(module" + "(memory 256)" * 100 + ")"
    with pytest.raises(ModuleRefused, match="memories 100"):
        wasm.load(wasm.wat(many), trust=wasm.Unsigned())
    two = wasm.wat("""(module (memory 1) (memory 1) (func (export "g") (param i32) (result i32)
        (memory.grow 1 (local.get 0))))""")
    limits = wasm.Limits(deadline=20.0, memories=2, memory="4MiB")
    with wasm.load(two, trust=wasm.Unsigned(), limits=limits) as plugin:
        assert plugin.call("g", 40) == -1
        assert plugin.call("g", 31) == 1


def test_a_table_cannot_be_grown_without_end() -> None:
    bomb = wasm.wat("""(module (table 1 funcref) (func (export "g") (param i32) (result i32)
        (table.grow (ref.null func) (local.get 0))))""")
    with wasm.load(bomb, trust=wasm.Unsigned(), limits=LONG) as plugin:
        assert plugin.call("g", 30_000_000) == -1
        assert plugin.call("g", 1000) == 1


def test_recursion_on_a_small_stack_is_a_trap_and_no_crash() -> None:
    found: list[object] = []

    def recurse() -> None:
        try:
            with kit() as plugin:
                plugin.call("recurse", 0)
        except WasmError as error:
            found.append(error)

    kit().close()  # compile on a stack that is large
    for size, expected in ((256 << 10, Trap), (64 << 10, WasmError)):
        before = threading.stack_size(size)
        try:
            thread = threading.Thread(target=recurse)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join(30)
        assert isinstance(found[-1], expected), found
    assert isinstance(found[0], Trap)
    assert found[0].code == "stack_overflow"
    # The system may give a thread the larger stack of one that has ended: then it is a trap again.
    assert "stack" in str(found[1])


def test_host_functions_are_granted_one_by_one() -> None:
    text = wasm.wat("""(module (import "env" "note" (func $n (param i32 i32) (result i32)))
        (import "env" "tick" (func $t)) (memory (export "memory") 1)
        (data (i32.const 8) "hello")
        (func (export "f") (param i32) (result i32)
          (call $t) (call $n (i32.const 8) (local.get 0))))""")
    seen: list[str] = []

    def note(said: str) -> int:
        seen.append(said)
        return len(said)

    grants = {"env": {"note": wasm.host(note, "(str) -> i32"), "tick": lambda: None}}
    with wasm.load(text, trust=wasm.Unsigned(), limits=LONG, imports=grants) as plugin:
        assert plugin.call("f", 5) == 5
        assert seen == ["hello"]
        with pytest.raises(OutOfBounds):
            plugin.call("f", 1 << 20)
    with pytest.raises(UnresolvedImports) as caught:
        wasm.load(text, trust=wasm.Unsigned())
    assert caught.value.imports == ("env.note: func (i32, i32) -> i32", "env.tick: func () -> ()")
    with pytest.raises(InvalidArgument, match="fits"):
        wasm.load(
            text, trust=wasm.Unsigned(),
            imports={"env": {"note": wasm.host(note, "(i32) -> i32"), "tick": print}},
        )  # fmt: skip
    for wrong in ({"env": 5}, {"env": {"note": 5}}, 5):
        with pytest.raises(InvalidArgument, match="imports"):
            wasm.load(text, trust=wasm.Unsigned(), imports=wrong)


CALLER = """(module (import "env" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "loop") (param i32) (result i32)
      (loop $n (drop (call $f (i32.const 0)))
        (br_if $n (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (i32.const 0)))"""


def caller(function, **options) -> wasm.Plugin:
    return wasm.load(
        wasm.wat(CALLER), trust=wasm.Unsigned(), limits=options.pop("limits", LONG),
        imports={"env": {"f": function}}, **options,
    )  # fmt: skip


def test_an_exception_of_the_host_reaches_its_own_caller() -> None:
    """8 tenants on 8 threads, 1,000 raising calls each: nobody sees what is another's."""
    count, wrong = int(os.environ.get("HASTACK_WASM_CALLS", "1000")), []

    def tenant(number: int) -> None:
        def raises(which: int) -> int:
            raise LookupError(number, which)

        with caller(raises) as plugin:
            for which in range(count):
                try:
                    plugin.call("go", which)
                    wrong.append((number, which, "nothing was raised"))
                except LookupError as error:
                    if error.args != (number, which):
                        wrong.append((number, which, error))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=tenant, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_calls_of_the_host_have_a_budget_and_a_deadline() -> None:
    with caller(lambda n: n, limits=wasm.Limits(deadline=20.0, host_calls=10)) as plugin:
        assert plugin.call("loop", 10) == 0
        with pytest.raises(WasmError, match="more than 10 times"):
            plugin.call("loop", 11)
    with caller(lambda n: time.sleep(0.2) or 1, limits=wasm.Limits(deadline=0.05)) as plugin:
        with pytest.raises(GuestDeadline):
            plugin.call("go", 1)
    with caller(lambda n: "x") as plugin, pytest.raises(InvalidArgument, match=r"env\.f"):
        plugin.call("go", 1)


def test_guests_that_call_each_other_through_the_host_end() -> None:
    def again(depth: int) -> int:
        return kept[0].call("go", depth + 1)

    kept = [caller(again)]
    with kept[0] as plugin:
        with pytest.raises(WasmError, match="deep"):
            plugin.call("go", 0)
        assert plugin.instances == 0


def test_instances_are_counted() -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(_: int) -> int:
        inside.set()
        leave.wait(30)
        return 7

    with caller(wait, instances=1) as plugin:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(plugin.call("go", 1)))
        thread.start()
        assert inside.wait(30)
        with pytest.raises(PoolExhausted, match="1 instances are busy"):
            plugin.call("go", 2)
        plugin.close()
        leave.set()
        thread.join(30)
        assert found == [7]  # what was under way ended as it would
        assert plugin.instances == 0
        with pytest.raises(ClosedError):
            plugin.call("go", 3)


def test_many_threads_call_one_plugin() -> None:
    with kit(instances=4) as plugin:
        wrong = []

        def calls(number: int) -> None:
            for n in range(300):
                if plugin.call("echo", b"%d-%d" % (number, n)) != b"%d-%d" % (number, n):
                    wrong.append((number, n))

        threads = [threading.Thread(target=calls, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert not wrong
        assert plugin.instances <= 4


def test_many_calls_in_one_crossing() -> None:
    with wasm.load(guest("policy.c"), trust=wasm.Unsigned(), limits=LONG) as policy:
        assert policy.abi == "http"
        assert policy.allow(b"GET", b"/admin")
        assert not policy.allow(b"POST", b"/admin/x")
        assert not policy.allow(b"GET", b"/a/../b")
        asked = [
            (method, path)
            for method in (b"GET", b"POST", b"")
            for path in (b"/", b"/admin", b"/x..", b"", b"/" + b"long" * 100, b"\0/admin")
        ]
        one_by_one = [policy.call("on_http_request", *each) for each in asked]
        assert policy.call_many("on_http_request", asked) == one_by_one
        assert policy.call_many("on_http_request", []) == []
        with pytest.raises(InvalidArgument, match="zero"):
            policy.call_many("on_http_request", [(b"G\0T", b"/")])
        with pytest.raises(InvalidArgument, match="2 arguments"):
            policy.call_many("on_http_request", [(b"GET",)])
        with pytest.raises(InvalidArgument, match="argument 2"):
            policy.call_many("on_http_request", [(b"GET", "text")])
        assert policy.instances == 1
    with kit() as plugin:
        assert plugin.call_many("add", [(1, 2), (2**32 - 1, 2)]) == [3, 1]
        assert plugin.call_many("length", [("ab",), ("",)]) == [2, 0]
        assert plugin.call_many("nothing", [(), ()]) == [None, None]
        with pytest.raises(InvalidArgument, match="i32 with one result"):
            plugin.call_many("echo", [(b"",)])
        with pytest.raises(Trap):
            plugin.call_many("divide", [(1, 1), (1, 0)])
    with kit(limits=wasm.Limits(deadline=0.05)) as plugin, pytest.raises(GuestDeadline):
        plugin.call_many("spin", [()])


def test_functions_are_checked_when_they_are_bound() -> None:
    with kit() as plugin:
        add = plugin.function("add", "(i32, i32) -> i32")
        assert add(1, 2) == 3
        assert add.__name__ == "add"
        assert plugin.function("shout")("x") == "X"
        with pytest.raises(InvalidArgument, match="signature"):
            plugin.function("add", "(i32) -> i32")
        for missing in ("absent", "memory"):
            with pytest.raises(InvalidArgument, match="exported function"):
                plugin.function(missing)
        with pytest.raises(InvalidArgument, match="exported function"):
            plugin.call("absent")
    with pytest.raises(InvalidArgument, match="fits"):
        kit(functions={"add": "(str, str) -> i32"})
    with pytest.raises(InvalidArgument, match="exported function"):
        kit(functions={"absent": "()"})


def test_nothing_is_loaded_without_a_word_about_trust() -> None:
    with pytest.raises(InvalidArgument, match="trust"):
        wasm.load(guest("kit.c"))


def test_what_is_no_module_is_refused(tmp_path) -> None:
    with events.record(wasm.PluginRefused) as seen:
        for data in (b"", b"\0asm", guest("kit.c")[:200]):
            with pytest.raises(InvalidModule):
                wasm.load(data, trust=wasm.Unsigned())
    assert len(seen) == 3
    invalid = wasm.wat("(module)") + bytes.fromhex("010401600000030201000a05010300410b")
    for isolated in (True, False):  # its structure is sound, its code is not
        with pytest.raises(InvalidModule):
            wasm.load(invalid, trust=wasm.Unsigned(), isolate_compiler=isolated)
    path = tmp_path / "kit.wasm"
    path.write_bytes(guest("kit.c"))
    with wasm.load(path, trust=wasm.Unsigned()) as plugin:
        assert plugin.name == "kit"
        assert repr(plugin).startswith("<Plugin 'kit'")
    with pytest.raises(ModuleRefused, match="module_bytes"):
        wasm.load(path, trust=wasm.Unsigned(), limits=wasm.Limits(module_bytes=100))


def test_beside_an_event_loop() -> None:
    async def main() -> None:
        with kit() as plugin:
            assert await plugin.call_async("add", 2, 3) == 5
            assert await plugin.call_async("shout", "loud") == "LOUD"
            assert await plugin.call_async("nothing") is None
            assert await plugin.call_async("half", 3.0) == 1.5
            with pytest.raises(InvalidArgument):
                await plugin.call_async("add", 2)
            with pytest.raises(Trap):
                await plugin.call_async("trap")
            with pytest.raises(Trap, match="stack"):
                await plugin.call_async("recurse", 0)
        with kit(limits=wasm.Limits(deadline=0.1)) as plugin:
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            with pytest.raises(GuestDeadline):
                await plugin.call_async("spin")
            assert turns > 1  # it went on beside the guest
            spinning = asyncio.create_task(plugin.call_async("spin"))
            await asyncio.sleep(0)
            spinning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await spinning
            task.cancel()
            assert await plugin.call_async("add", 1, 1) == 2
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await plugin.call_async("spin")

    asyncio.run(main())


TURNS = """(module
    (func (export "one") (result i32) (i32.const 1))
    (func (export "spin") (loop (br 0))))"""


def test_more_calls_than_instances_take_turns_on_a_loop() -> None:
    async def main() -> None:
        with wasm.load(wasm.wat(TURNS), trust=wasm.Unsigned(), limits=LONG, instances=2) as plugin:
            assert (
                await asyncio.gather(*(plugin.call_async("one") for _ in range(100))) == [1] * 100
            )

    asyncio.run(main())


def test_a_turn_that_does_not_come_is_waited_for_no_longer_than_a_call_may_take() -> None:
    async def main() -> None:
        limits = wasm.Limits(deadline=0.05)
        code = wasm.wat(TURNS)
        with wasm.load(code, trust=wasm.Unsigned(), limits=limits, instances=1) as plugin:
            spinning = [asyncio.create_task(plugin.call_async("spin")) for _ in range(40)]
            ended = await asyncio.gather(*spinning, return_exceptions=True)
            kinds = {type(each) for each in ended}
            assert kinds == {GuestDeadline, PoolExhausted}
            assert await plugin.call_async("one") == 1
        # Someone in a hurry waits no longer than that.
        with wasm.load(code, trust=wasm.Unsigned(), limits=LONG, instances=1) as plugin:
            spinning = [asyncio.create_task(plugin.call_async("spin"))]
            await asyncio.sleep(0)
            with context.timeout(0.02), pytest.raises(PoolExhausted):
                await plugin.call_async("one")
            spinning[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await spinning[0]

    asyncio.run(main())


def test_host_functions_and_initialisers_work_on_fibers() -> None:
    reactor = wasm.wat("""(module (import "env" "f" (func $f (param i32) (result i32)))
        (global $g (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $g (i32.const 40)))
        (func (export "go") (result i32) (i32.add (global.get $g) (call $f (i32.const 1)))))""")
    grants = {"env": {"f": lambda n: n + 1}}
    with wasm.load(reactor, trust=wasm.Unsigned(), limits=LONG, imports=grants) as plugin:
        assert plugin.call("go") == 42
        assert asyncio.run(plugin.call_async("go")) == 42


def test_instances_leave_no_memory_behind() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096

    with kit(fresh=True) as plugin:
        for _ in range(300):
            plugin.call("echo", b"x" * 1000)
        before = resident()
        for _ in range(2000):
            plugin.call("echo", b"x" * 1000)
        assert resident() - before < 4 << 20


def test_after_a_fork_deadlines_hold_in_the_child() -> None:
    with kit(limits=wasm.Limits(deadline=0.1)) as plugin:
        plugin.call("add", 1, 1)
        child = os.fork()
        if child == 0:
            try:
                plugin.call("spin")
            except GuestDeadline:
                ok = plugin.call("add", 20, 22) == 42
                os._exit(0 if ok else 2)
            finally:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert plugin.call("add", 1, 1) == 2


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from wasm_guests import LONG, guest
from hastack import wasm
from hastack.errors import Trap
from hastack.wasm._capi import library
plugin = wasm.load(guest("kit.c"), trust=wasm.Unsigned(), limits=LONG, functions={kit!r})
answers = [plugin.call("add", 2, 3), plugin.call("add64", 1 << 40, 1), plugin.call("half", 3.0)]
answers += [plugin.call("half32", 5.0), plugin.call("shout", "x"), plugin.call("nothing")]
answers += [plugin.call_many("add", [(1, 2), (3, 4)])]
try:
    plugin.call("trap")
except Trap as trap:
    answers.append(trap.code)
print(library().tier, answers)
"""


@pytest.mark.parametrize("tier", ["direct", "checked"])
def test_both_ways_in_do_the_same(tier: str) -> None:
    script = SCRIPT.format(path=[*sys.path], kit=KIT)
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "HASTACK_WASM_TIER": tier},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[0] == tier
    assert "[5, 1099511627777, 1.5, 2.5, 'X', None, [3, 7], 'unreachable']" in done.stdout


def test_host_functions_that_read_and_write_guest_memory() -> None:
    text = wasm.wat("""(module (import "env" "f" (func $f (param i32 i32) (result i32)))
        (memory (export "mine") 1 2) (data (i32.const 8) "hello\\00")
        (data (i32.const 65530) "endend")
        (func (export "grow") (result i32) (memory.grow (i32.const 1)))
        (func (export "at") (param i32) (result i32) (i32.load8_u (local.get 0)))
        (func (export "go") (param i32 i32) (result i32)
          (call $f (local.get 0) (local.get 1))))""")

    def f(memory: wasm.Memory, pointer: int, length: int) -> int:
        memory.write(pointer, memory.read(8, length).upper())
        assert memory.text(8).lower() == b"hello"
        return memory.size

    def load(function: wasm.HostFunction) -> wasm.Plugin:
        grants = {"env": {"f": function}}
        return wasm.load(text, trust=wasm.Unsigned(), limits=LONG, imports=grants)

    with load(wasm.host(f, memory=True)) as plugin:
        assert plugin.call("go", 100, 5) == 65536
        assert plugin.call("at", 100) == ord("H")
        with pytest.raises(OutOfBounds):
            plugin.call("go", 65534, 5)
        plugin.call("go", 100, 5)
        assert plugin.call("grow") == 1
        assert plugin.call("go", 65534, 5) == 131072  # the host sees that it grew
    with load(wasm.host(lambda memory, p, n: memory.text(65530), memory=True)) as plugin:
        with pytest.raises(OutOfBounds):
            plugin.call("go", 0, 0)
    with load(wasm.host(lambda said, n: len(said) + n, "(cstr, i32) -> i32")) as plugin:
        assert plugin.call("go", 8, 10) == 15
    with load(wasm.host(lambda said, n: said[0] + n, "(cbytes, i32) -> i32")) as plugin:
        assert plugin.call("go", 8, 1) == ord("h") + 1
    with load(wasm.host(lambda said: len(said), "(bytes) -> i32")) as plugin:
        with pytest.raises(WasmError, match=r"output_bytes"):
            plugin.call("go", 0, 2**31)
    with pytest.raises(InvalidArgument, match="results that are numbers"):
        wasm.load(
            wasm.wat("""(module (import "env" "f" (func (result i64))))"""),
            trust=wasm.Unsigned(), imports={"env": {"f": wasm.host(f, "() -> bytes")}},
        )  # fmt: skip
    with pytest.raises(InvalidArgument, match="call"):
        wasm.host(5)


def test_a_compiler_that_takes_too_long_is_killed() -> None:
    bomb = wasm.wat("(module" + "(func (local" + " i64" * 50_000 + "))" * 1 + ")")
    many = bomb[:8] + _repeated(bomb, 2000)
    loose = wasm.Limits(locals=100_000, total_locals=10**9, compile_seconds=0.2)
    from hastack.wasm._compile import compiler

    with pytest.raises(ModuleRefused, match="locals"):
        wasm.load(many, trust=wasm.Unsigned())
    begun = time.monotonic()
    with pytest.raises(CompileFailed):
        compiler.compile(many, loose)
    assert time.monotonic() - begun < 45.0
    assert compiler._process is None  # and the next one gets another
    with kit() as plugin:
        assert plugin.call("add", 1, 1) == 2


def _repeated(module: bytes, count: int) -> bytes:
    """The sections of a module with one function, with ``count`` of the same."""
    out = b""
    for section in sections(module):
        payload = module[section.payload : section.end]
        if section.id == 3:
            payload = _leb(count) + b"\0" * count
        elif section.id == 10:
            payload = _leb(count) + payload[1:] * count
        out += bytes([section.id]) + _leb(len(payload)) + payload
    return out


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def test_100_000_functions_are_refused_before_anything_is_compiled() -> None:
    many = _repeated(wasm.wat("(module (func))"), 100_000)
    begun = time.monotonic()
    with pytest.raises(ModuleRefused, match="functions 100,000"):
        wasm.load(wasm.wat("(module)")[:8] + many, trust=wasm.Unsigned())
    assert time.monotonic() - begun < 20.0


LITTLE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from hastack import wasm
from hastack.errors import Trap
text = wasm.wat('''(module (memory (export "memory") 1)
  (func (export "f") (param i32 i32) (result i32) (local.get 1))
  (func (export "beyond") (result i32) (i32.load (i32.const 2000000))))''')
for isolated in (True, False):
    plugin = wasm.load(
        text, trust=wasm.Unsigned(), isolate_compiler=isolated,
        functions={"f": "(bytes) -> i32"}, limits=wasm.Limits(deadline=20.0),
    )
    assert plugin.call("f", b"hello") == 5
    try:
        plugin.call("beyond")
    except Trap as trap:
        print(plugin._code.engine.pooled, trap.code)
"""


def test_with_little_address_space_it_does_without_a_pool() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LITTLE], capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "memory_out_of_bounds"] * 2

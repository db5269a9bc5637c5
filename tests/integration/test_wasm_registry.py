"""Versions of a plugin out of a store's key."""

from __future__ import annotations

import asyncio

import pytest

from hastack import events, wasm
from hastack.contrib import wasm_registry
from hastack.discovery import memory
from hastack.errors import ClosedError, InvalidArgument
from hastack.wasm import PrivateKey, Signer, Trust, sign

KEY = PrivateKey.generate()
LIMITS = wasm.Limits(deadline=20.0)


def version(number: int) -> bytes:
    code = wasm.wat(f'(module (func (export "v") (result i32) (i32.const {number})))')
    return sign(code, KEY)


def swap() -> wasm.Swap:
    return wasm.Swap("demo", trust=Trust([Signer(KEY.public, "ada")]), limits=LIMITS)


async def becomes(plugin: wasm.Swap, number: int) -> None:
    async with asyncio.timeout(20):
        while plugin.call("v") != number:
            await asyncio.sleep(0.01)


def test_each_value_is_a_version() -> None:
    async def main() -> None:
        store = memory.Store()
        await store.put("/plugins/demo", version(1))
        with swap() as plugin, events.record(wasm.PluginRefused) as refused:
            async with wasm_registry.Followed(plugin, store, "/plugins/demo"):
                assert plugin.call("v") == 1
                await store.put("/plugins/demo", version(2))
                await becomes(plugin, 2)
                # What nobody signed is refused, and what is deleted was not the plugin.
                await store.put("/plugins/demo", wasm.detach(version(3))[1])
                async with asyncio.timeout(20):
                    while not refused:
                        await asyncio.sleep(0.01)
                await store.delete("/plugins/demo")
                assert plugin.call("v") == 2
                for number in (4, 5, 6):
                    await store.put("/plugins/demo", version(number))
                await becomes(plugin, 6)
            await store.put("/plugins/demo", version(7))
            await asyncio.sleep(0)
            assert plugin.call("v") == 6
        await store.aclose()

    asyncio.run(main())


def test_it_goes_on_after_a_watch_that_failed(monkeypatch, caplog) -> None:
    class Flaky:
        def __init__(self, store: memory.Store) -> None:
            self.store, self.failures = store, 2

        def watch(self, key: str) -> object:
            if self.failures:
                self.failures -= 1
                raise OSError("no route")
            return self.store.watch(key)

    async def main() -> None:
        store = memory.Store()
        await store.put("k", version(1))
        monkeypatch.setattr(wasm_registry, "_PAUSE", (0.001, 0.01))
        with swap() as plugin:
            async with wasm_registry.Followed(plugin, Flaky(store), "k"):  # type: ignore[arg-type]
                assert plugin.call("v") == 1
        await store.aclose()

    asyncio.run(main())
    assert [each.message for each in caplog.records] == ["demo: watching 'k' failed"] * 2


def test_a_closed_plugin_is_followed_no_more() -> None:
    async def main() -> None:
        store = memory.Store()
        await store.put("k", version(1))
        plugin = swap()
        plugin.close()
        with pytest.raises(ClosedError):
            await wasm_registry.follow(plugin, store, "k")
        with pytest.raises(InvalidArgument):
            await wasm_registry.follow(plugin, store, "")
        with pytest.raises(InvalidArgument):
            wasm_registry.Followed(plugin, store, "")
        async with wasm_registry.Followed(plugin, store, "k", first=5.0):
            pass  # nothing to wait for
        await store.aclose()

    asyncio.run(main())


def test_entering_may_be_cancelled() -> None:
    class Unreachable:
        def watch(self, key: str) -> object:
            raise OSError("no route")

    async def main() -> None:
        with swap() as plugin:

            async def enter() -> None:
                followed = wasm_registry.Followed(plugin, Unreachable(), "k", first=60.0)  # type: ignore[arg-type]
                async with followed:
                    raise AssertionError

            task = asyncio.create_task(enter())
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())

"""Watching again after the last watch was left costs no pause: that is for streams that fail."""

import asyncio

from hastack.discovery.etcd import Client, _watch


def test_a_stream_that_nobody_needed_any_more_counts_as_no_failure(etcd, monkeypatch):
    pauses = []
    sleep = asyncio.sleep

    async def noted(seconds):
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(_watch.asyncio, "sleep", noted)

    async def main():
        async with Client(etcd.endpoint) as client:
            for number in range(8):
                async with client.watch("k") as watch:
                    await anext(watch)
                    await client.put("k", str(number))
                    assert (await anext(watch)).events[0].kv.value == b"%d" % number

    asyncio.run(main())
    assert not [seconds for seconds in pauses if seconds > 0.2]

"""One forwarder as a process of its own, to be killed.

usage: forwarder_process.py SOURCE DESTINATION ORIGIN

Prints a JSON line per event of the forwarder and, once a second, its status.
"""

from __future__ import annotations

import asyncio
import json
import sys

import attrs

from hastack import events
from hastack.discovery import etcd
from hastack.discovery.federation import (
    EvictionFrozen,
    Forwarder,
    ForwarderFailed,
    ForwarderSuperseded,
    OriginRelisted,
)


def say(kind: str, what: object) -> None:
    print(json.dumps({"kind": kind, **attrs.asdict(what)}, default=str), flush=True)


async def main(source: str, destination: str, origin: str) -> None:
    told = (EvictionFrozen, ForwarderFailed, ForwarderSuperseded, OriginRelisted)
    events.subscribe(lambda event: say(type(event).__name__, event), *told)
    forwarder = Forwarder(etcd.connect(source), etcd.connect(destination), origin=origin)
    async with forwarder:
        while True:
            say("status", forwarder.status())
            await asyncio.sleep(1.0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

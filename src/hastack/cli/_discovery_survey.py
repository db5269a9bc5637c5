"""What ``hastack discovery doctor`` measures. Writes one scratch key, on a lease, and deletes it."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from hastack.discovery._hlc import ahead
from hastack.discovery._instance import Instance, MalformedInstance
from hastack.discovery._layout import (
    CHECKPOINTS,
    HEARTBEATS,
    MIRRORED,
    REGISTERED,
    ROOT,
    InstanceKey,
)

from ._discovery_clock import skew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hastack.discovery import Registry, Store

__all__ = ("survey",)

_PUTS = 20


async def survey(registry: Registry, timeout: float) -> dict[str, Any]:
    """Everything; a part that fails says so and keeps no other from being looked at."""
    store = registry.store
    endpoints, members = await _cluster(store, timeout)
    if endpoints and all("error" in each for each in endpoints):
        # Nobody is there: asking three times more would only take longer.
        nothing = {"error": endpoints[0]["error"]}
        parts = {"lease": nothing, "watch": nothing, "registry": nothing}
    else:
        parts = {
            "lease": await _guarded(lambda: _lease(store), timeout),
            "watch": await _guarded(lambda: _watch(store), timeout * 2),
            "registry": await _guarded(lambda: _registry(store), timeout * 2),
        }
    return {
        "url": store.url,
        "namespace": registry.namespace,
        "origin": registry.origin,
        "endpoints": endpoints,
        "members": members,
        **parts,
    }


async def _guarded(work: Callable[[], Awaitable[dict[str, Any]]], timeout: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(timeout):
            return await work()
    except TimeoutError as error:
        return {"error": str(error) or f"no answer within {timeout:g} s"}
    except Exception as error:
        return {"error": str(error) or type(error).__name__}


async def _cluster(store: Any, timeout: float) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Each endpoint of the URL, and the members that the cluster says it has."""
    if not hasattr(store, "maintenance"):
        return [], None
    addresses = store.url.partition("://")[2].partition("/")[0].split(",")

    async def one(address: str) -> dict[str, Any]:
        began = time.perf_counter()
        status = await store.maintenance.status(address, timeout=timeout)
        took = time.perf_counter() - began
        return {
            "version": status.version,
            "member": f"{status.member:x}",
            "leader": f"{status.leader:x}" if status.leader else "",
            "leads": status.leader == status.member,
            "revision": status.revision,
            "raft_term": status.raft_term,
            "raft_behind": status.raft_index - status.raft_applied_index,
            "db_size": status.db_size,
            "db_size_in_use": status.db_size_in_use,
            "errors": list(status.errors),
            "learner": status.learner,
            "round_trip": took,
            "clock": await skew(address.rpartition("@")[2], store._shared.options.tls, timeout),
        }

    # The time for the clock comes on top, and is bounded by itself.
    patience = timeout * 2
    found = await asyncio.gather(*(_guarded(partial(one, each), patience) for each in addresses))
    endpoints = [{"endpoint": a, **each} for a, each in zip(addresses, found, strict=True)]
    if all("error" in each for each in found):
        return endpoints, None
    try:
        async with asyncio.timeout(timeout):
            members = await store.cluster.members(timeout=timeout)
    except Exception:
        return endpoints, None
    return endpoints, [
        {"name": each.name, "id": f"{each.id:x}", "clients": list(each.client_urls)}
        for each in members
    ]


async def _lease(store: Store) -> dict[str, Any]:
    began = time.perf_counter()
    async with store.lease(10.0) as lease:
        granted = time.perf_counter()
        ttl = lease.ttl
    return {
        "granted": granted - began,
        "round_trip": time.perf_counter() - began,
        "ttl": ttl,
    }


async def _watch(store: Store) -> dict[str, Any]:
    """Put a scratch key again and again; when does a watch of it hear of that?"""
    key = ROOT + b"tmp/doctor/" + secrets.token_hex(8).encode()
    lags, puts = [], []
    async with store.lease(30.0) as lease, store.watch(key) as watch:
        await anext(watch)  # the snapshot: nothing
        for n in range(_PUTS):
            began = time.perf_counter()
            putting = asyncio.ensure_future(store.put(key, str(n), lease=lease))
            seen = False
            while not seen:
                batch = await anext(watch)
                seen = any(event.kv.value == str(n).encode() for event in batch.events)
            lags.append(time.perf_counter() - began)
            await putting
            puts.append(time.perf_counter() - began)
    return {
        "puts": _PUTS,
        "put": statistics.median(puts),
        "put_to_event": statistics.median(lags),
        "put_to_event_max": max(lags),
    }


async def _registry(store: Store) -> dict[str, Any]:
    """What is registered, in all namespaces and under all origins."""
    origins: set[str] = set()
    services: set[tuple[str, str]] = set()
    malformed: list[str] = []
    count, mirrored, furthest = 0, 0, 0.0
    wall = time.time()
    for prefix in (REGISTERED, MIRRORED):
        async for kv in store.scan(prefix):
            key = InstanceKey.parse(kv.key)
            try:
                if key is None or key.to_bytes() != kv.key:
                    raise MalformedInstance("the key")
                one = Instance.parse(
                    kv.value,
                    service=key.service,
                    id=key.instance,
                    namespace=key.namespace,
                    origin=key.origin,
                )
            except MalformedInstance:
                malformed.append(kv.key.decode(errors="backslashreplace"))
                continue
            services.add((key.namespace, key.service))
            if one.incarnation > 0:
                furthest = max(furthest, ahead(one.incarnation, wall))
            if key.area == "reg":
                count += 1
                origins.add(key.origin)
            else:
                mirrored += 1
    alive = {kv.key[len(HEARTBEATS) :] async for kv in store.scan(HEARTBEATS, keys_only=True)}
    known = {kv.key[len(CHECKPOINTS) :] async for kv in store.scan(CHECKPOINTS, keys_only=True)}
    return {
        "services": len(services),
        "instances": count,
        "mirrored": mirrored,
        "origins": sorted(origins),
        "stale_origins": sorted(each.decode(errors="replace") for each in known - alive),
        "malformed": malformed[:20],
        "clock_ahead": furthest,
    }

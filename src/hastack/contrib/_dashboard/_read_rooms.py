"""Rows of everything but guards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ._document import (
    ConfigRow,
    EbpfRow,
    EngineRow,
    ExporterRow,
    HealthRow,
    LifecycleRow,
    PluginRow,
    SchemaRow,
    ServiceRow,
)

if TYPE_CHECKING:
    from ._look import Look

__all__ = (
    "config",
    "ebpf",
    "engine",
    "exporter",
    "health",
    "lifecycle",
    "plugin",
    "schemas",
    "services",
    "swap",
    "watch_plugin",
)

MOST_INSTANCES = 200
MOST_FIELDS = 64


def lifecycle(thing: Any, look: Look) -> LifecycleRow:
    """A `Lifecycle`."""
    report = thing.report
    failed = []
    if report is not None:
        failed = [f"{name} {step}: {error}"[:200] for name, step, error in report.errors]
    return LifecycleRow(
        id=look.key(thing),
        name=thing.name,
        phase=thing.phase.value,
        ready=thing.ready,
        components=list(thing.components),
        budget=thing.budget,
        failed=failed,
    )


def health(thing: Any, look: Look) -> HealthRow:
    """A `Health`, from memory: a look runs no check."""
    live, ready = thing.liveness(), thing.last_readiness()
    key = look.key(thing)
    return HealthRow(
        id=key,
        name=thing.name,
        live=live.status.value,
        ready=ready.status.value,
        failing=[*live.failing, *ready.failing],
        checks=[
            {
                "name": each.name,
                "ok": each.ok,
                "critical": each.critical,
                "detail": each.detail,
                "age": each.age,
                "took": each.took,
            }
            for each in ready.checks
        ],
        held=key in look.held,
    )


def services(thing: Any, look: Look) -> list[ServiceRow]:
    """What a `Registry` registers and watches; a registry that nobody used knows nothing."""
    book = thing._book
    if book is None:
        return []
    key = look.key(thing)
    own = {
        (each.instance.service, each.instance.id): each
        for each in list(book.registrations.values())
    }
    rows = []
    feeds = dict(book.feeds)
    for service in sorted({*feeds, *(name for name, _ in own)}):
        feed = feeds.get(service)
        known = None if feed is None else feed.known
        found = [] if known is None else list(known.instances)
        seen = {each.id for each in found}
        for (name, one), registration in own.items():
            if name == service and one not in seen:
                found.append(registration.instance)
        rows.append(
            ServiceRow(
                id=f"{key}/{service}",
                name=service,
                namespace=thing.namespace,
                store=str(thing.store.url),
                age=0.0 if feed is None else feed.age(),
                complete=known is not None and known.complete,
                stale=[] if known is None else sorted(known.stale),
                instances=[
                    _instance(each, own.get((service, each.id)), look)
                    for each in found[:MOST_INSTANCES]
                ],
                hidden=max(len(found) - MOST_INSTANCES, 0),
            )
        )
    return rows


def _instance(instance: Any, registration: Any, look: Look) -> dict[str, Any]:
    from hastack.discovery._hlc import parts

    state = "draining" if instance.draining else "present"
    why = ""
    if registration is not None:
        state = registration.state
        why = "" if registration.error is None else str(registration.error)[:200]
    born = parts(instance.incarnation)[0] / 1000.0 if instance.incarnation > 0 else 0.0
    return {
        "id": instance.id,
        "address": instance.address,
        "zone": instance.zone,
        "weight": instance.weight,
        "state": state,
        "since": max(look.wall - born, 0.0) if born else None,
        "own": registration is not None,
        "origin": instance.origin,
        "why": why,
    }


def exporter(thing: Any, look: Look) -> ExporterRow:
    """One exporter with its account."""
    key = look.key(thing)
    account = thing.account()
    sent_rate = look.sampler.rate((key, "sent"), account.sent)
    look.sampler.track((key, "sent"), look.sampler.latest((key, "sent")))
    return ExporterRow(
        id=key,
        name=thing.name,
        signal=thing.signal,
        emitted=account.emitted,
        recovered=account.recovered,
        sent=account.sent,
        queued=account.queued,
        in_flight=account.in_flight,
        spilled=account.spilled,
        dropped=dict(account.dropped),
        emitted_rate=look.sampler.rate((key, "emitted"), account.emitted),
        sent_rate=sent_rate,
        lost_rate=look.sampler.rate((key, "lost"), account.lost),
        balanced=account.balanced,
        history=look.sampler.history((key, "sent")),
    )


def engine(thing: Any, look: Look) -> EngineRow:
    """A run of the log engine."""
    key = look.key(thing)
    account = thing.account()
    rate = look.sampler.rate((key, "lines"), account.lines)
    look.sampler.track((key, "lines"), look.sampler.latest((key, "lines")))
    return EngineRow(
        id=key,
        name=thing.name,
        lines=account.lines,
        records=account.records,
        rejects=account.rejects,
        rate=rate,
        dropped=sum(account.dropped.values()),
        formats=dict(account.by_format),
        history=look.sampler.history((key, "lines")),
    )


def schemas(thing: Any, look: Look) -> list[SchemaRow]:
    """The schemas of a `SchemaTracker`."""
    key = look.key(thing)
    counts = thing.counts()
    rows = []
    for name, schema in thing.schemas.items():
        applied = counts.get(name)
        names = [f"{'.'.join(field.path)}: {field.type}" for field in schema.fields]
        rows.append(
            SchemaRow(
                id=f"{key}/{name}",
                format=name,
                version=schema.version,
                fields=names[:MOST_FIELDS],
                records=0 if applied is None else applied.records,
                broken=0 if applied is None else sum(applied.broken.values()),
                unknown=0 if applied is None else sum(applied.unknown.values()),
                pinned=schema.pinned,
            )
        )
    return rows


def ebpf(thing: Any, look: Look) -> EbpfRow | None:
    """An object in the kernel; the counts of runs are the kernel's, where it keeps them."""
    if thing.closed:
        return None
    readers = []
    lost: int | None = None
    for each in list(thing._rings):
        account = getattr(each, "account", None)
        if each.closed or account is None:
            continue
        found = account()._asdict()
        readers.append({"name": each.name, "kind": type(each).__name__, **found})
        if found.get("lost") is not None:
            lost = (lost or 0) + found["lost"]
    programs = []
    for each in list(thing.programs.values()):
        info = each.info()
        programs.append(
            {
                "name": each.name,
                "type": each.type,
                "id": each.id,
                "runs": info.runs,
                "run_ns": info.run_ns,
            }
        )
    return EbpfRow(
        id=look.key(thing),
        name=thing.name,
        programs=programs,
        maps=[
            {"name": each.name, "type": each.type, "id": each.id, "max_entries": each.max_entries}
            for each in list(thing.maps.values())
        ],
        links=[
            {"program": each.program.name, "target": str(each.target), "type": each.type}
            for each in thing.links
        ],
        readers=readers,
        lost=lost,
    )


def watch_plugin(thing: Any) -> Any:
    """Count the calls of a plugin; the function that ends it."""
    import weakref

    from hastack.ratelimit._tally import Tally

    tally = Tally()
    step = tally.step
    reference = weakref.ref(thing)
    kind = type(thing)

    # On the instance, in front of the class's; weakly, or the plugin would hold itself.
    def call(name: str, *args: Any) -> Any:
        step()
        return kind.call(reference(), name, *args)

    async def call_async(name: str, *args: Any) -> Any:
        step()
        return await kind.call_async(reference(), name, *args)

    def call_many(name: str, calls: Any) -> Any:
        step()
        return kind.call_many(reference(), name, calls)

    own = vars(thing)
    if "call" in own:  # another dashboard counts already
        return None
    own.update(call=call, call_async=call_async, call_many=call_many, _tally=tally)

    def end() -> None:
        alive = reference()
        if alive is not None:
            for each in ("call", "call_async", "call_many", "_tally"):
                vars(alive).pop(each, None)

    return end


def plugin(thing: Any, look: Look) -> PluginRow | None:
    """One loaded plugin."""
    if thing.closed:
        return None
    key = look.key(thing)
    calls = look.calls(thing)
    verified = thing.verified
    manifest = None if verified is None else verified.manifest
    version = "" if manifest is None else f"{manifest.version} (svn {manifest.svn})"
    return PluginRow(
        id=key,
        name=thing.name,
        kind=thing.abi,
        digest=thing.digest,
        version=version,
        state="active",
        instances=thing.instances,
        calls=calls,
        call_rate=look.sampler.rate((key, "calls"), calls),
        signed_by=[] if verified is None else list(verified.identities),
        **_happened(thing.name, look),
    )


def swap(thing: Any, look: Look) -> PluginRow | None:
    """A plugin whose versions are exchanged; the plugins inside have rows of their own."""
    if thing._closed:
        return None
    key = look.key(thing)
    active = thing._active
    return PluginRow(
        id=key,
        name=thing.name,
        kind="swap",
        digest=thing.digest or "",
        version="",
        state="active" if thing.phase is None else f"rolling out: {thing.phase}",
        instances=0 if active is None else active.plugin.instances,
        calls=0,
        call_rate=None,
        signed_by=[],
        **_happened(thing.name, look),
    )


def _happened(name: str, look: Look) -> dict[str, Any]:
    counts = look.counts
    return {
        "traps": counts.get(("trapped", name, ""), 0),
        "swaps": counts.get(("swapped", name, ""), 0),
        "rollbacks": counts.get(("rolled back", name, ""), 0),
        "refused": counts.get(("refused", name, ""), 0),
        "last": look.last_of.get(name, ""),
    }


def config(thing: Any, look: Look) -> ConfigRow:
    """A watched configuration; values are never shown."""
    heard = look.reloads
    return ConfigRow(
        id=look.key(thing),
        into=thing._recipe.into.__name__,
        sources=[str(source.name) for source in thing._recipe.sources],
        result=heard["result"] or "loaded",
        ago=time.monotonic() - heard["at"] if heard["result"] else None,
        detail=list(heard["detail"]),
    )

"""Whether what the configuration names can be reached, and does its work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hastack.errors import HastackError, InvalidArgument, MissingDependency

from ._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hastack.config import Config
    from hastack.observe import BackendConfig, ObserveConfig

    from ._finding import Status
    from ._looking import Looking

__all__ = ("backends",)


def backends(looking: Looking) -> Iterator[Finding]:
    """The store of discovery, then each backend that gets signals, then the page for Prometheus."""
    from hastack.observe._options import OBSERVE

    settings = looking.settings
    if settings is None:
        if looking.mistakes:
            yield Finding(
                section="backends",
                name="configuration",
                status="broken",
                says="not asked: the configuration has mistakes",
                fix=" ".join(("hastack config check --env", *looking.files)),
            )
        return
    if looking.wants("backends", "discovery"):
        yield _store(settings, looking)
    yield from _observed(OBSERVE.of(settings), looking)


def _store(settings: Config, looking: Looking) -> Finding:
    import attrs

    from hastack import discovery
    from hastack.cli._discovery_findings import findings
    from hastack.cli._discovery_survey import survey

    options = attrs.asdict(settings.discovery, recurse=False)
    options["cache"] = None  # that file is its service's
    options["timeout"] = min(options["timeout"], looking.timeout)
    if options["url"].reveal() == "memory://":
        says = "memory://, the store of one process: nothing to reach"
        return Finding(section="backends", name="discovery", says=says)

    async def look() -> dict[str, Any]:
        async with discovery.connect(**options) as registry:
            return await survey(registry, looking.timeout)

    try:
        report = asyncio.run(look())
    except HastackError as error:
        return _failed("discovery", error)
    broken = any("error" in report[part] for part in ("lease", "watch", "registry"))
    return Finding(
        section="backends",
        name="discovery",
        status="broken" if broken else "ok",
        says=_summary(report),
        fix=f"hastack discovery doctor --url {report['url']}" if broken else None,
        notes=tuple(findings(report)),
        facts=report,
    )


def _summary(report: dict[str, Any]) -> str:
    endpoints = report["endpoints"]
    up = [each for each in endpoints if "error" not in each]
    parts = [report["url"]]
    if endpoints:
        versions = sorted({each["version"] for each in up})
        kind = f" (etcd {', '.join(versions)})" if versions else ""
        parts.append(f"{len(up)} of {len(endpoints)} endpoints answer{kind}")
    if "error" not in report["registry"]:
        found = report["registry"]
        parts.append(f"{found['instances']} instances of {found['services']} services")
    return ", ".join(parts)


def _failed(name: str, error: HastackError, *, where: str = "") -> Finding:
    fix = f"pip install 'hastack[{error.extra}]'" if isinstance(error, MissingDependency) else None
    says = str(error).partition(". Install it with")[0] if fix else str(error)
    return Finding(section="backends", name=name, status="broken", says=f"{where}{says}", fix=fix)


def _observed(settings: ObserveConfig, looking: Looking) -> Iterator[Finding]:
    for name, backend in settings.backends.items():
        if looking.wants("backends", name):
            yield from _signals(name, backend, looking.timeout)
    if settings.prometheus.enabled and looking.wants("backends", "prometheus"):
        try:
            from hastack.cli._observe_ask import ask_page

            page = ask_page(settings.prometheus, looking.timeout)
            says = f"{page['endpoint']}: {page['says']}"
            yield _answered("prometheus", page["ok"], says, [page])
        except (InvalidArgument, MissingDependency) as error:
            yield _failed("prometheus", error)


def _signals(name: str, backend: BackendConfig, timeout: float) -> Iterator[Finding]:
    try:
        from hastack.cli._observe_ask import ask_backend

        rows = ask_backend(name, backend, timeout)
    except (InvalidArgument, MissingDependency) as error:
        yield _failed(name, error, where=f"{backend.endpoint}: ")
        return
    said: dict[tuple[bool, str], list[str]] = {}
    for row in rows:  # what all signals say is said once
        said.setdefault((row["ok"], row["says"]), []).append(row["signal"])
    for (well, says), signals in said.items():
        yield _answered(name, well, f"{', '.join(signals)} to {backend.endpoint}: {says}", rows)


def _answered(name: str, well: bool, says: str, rows: list[dict[str, Any]]) -> Finding:
    status: Status = "ok" if well else "broken"
    return Finding(section="backends", name=name, status=status, says=says, facts={"signals": rows})

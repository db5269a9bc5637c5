"""What is worth a warning in what ``hastack discovery doctor`` has seen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ._discovery_clock import MAX_SKEW

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("findings", "old_version")

# The first releases without the known faults of watches, and the ones that Kubernetes asks for:
# progress told ahead of events (etcd#15220), a starved watch that skips events across a
# compaction (etcd#17529), deletions lost at a compaction (etcd#19179).
_SOUND = {(3, 4): 31, (3, 5): 13}
_QUOTA = 2 << 30  # bytes; etcd's default
_LAG = 1000  # revisions that a member may be behind before it is worth a word
_SLOW = 0.5  # seconds


def old_version(version: str) -> str | None:
    """The release that this version should be upgraded to; ``None`` when it is sound or unknown."""
    parts = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if parts is None:
        return None
    major, minor, patch = map(int, parts.groups())
    if (major, minor) < (3, 4):
        return "3.5.13"
    needed = _SOUND.get((major, minor))
    return f"{major}.{minor}.{needed}" if needed is not None and patch < needed else None


def findings(report: dict[str, Any]) -> list[str]:
    """One line per thing that somebody should look at."""
    found = [*_of_endpoints(report), *_of_cluster(report)]
    if report["endpoints"] and all("error" in each for each in report["endpoints"]):
        return found  # nothing else could work, and why is said
    return [*found, *_of_store(report), *_of_registry(report)]


def _of_endpoints(report: dict[str, Any]) -> Iterator[str]:
    old: dict[str, list[str]] = {}
    for each in report["endpoints"]:
        where = each["endpoint"]
        if "error" in each:
            yield f"{where} does not answer: {_short(each['error'])}"
            continue
        if old_version(each["version"]) is not None:
            old.setdefault(each["version"], []).append(where)
        if not each["leader"]:
            yield f"{where} knows no leader: it serves nothing that needs a quorum"
        if each["learner"]:
            yield f"{where} is a learner: it has no vote and serves no consistent reads"
        clock = each["clock"]
        if clock is not None and abs(clock["ahead"]) - clock["within"] > MAX_SKEW:
            way = "ahead of" if clock["ahead"] > 0.0 else "behind"
            yield (
                f"the clock of {where} is {abs(clock['ahead']):.1f} s {way} this one's: where several "
                "clusters claim an instance, half a second decides"
            )
        for error in each["errors"]:
            yield f"{where} complains: {error}"
        if each["db_size"] > 0.8 * _QUOTA:
            yield (
                f"{where} has a database of {each['db_size'] / 2**20:.0f} MiB; at its quota, "
                "2 GiB unless set, etcd takes no more writes: compact and defragment"
            )
    for version, places in old.items():
        yield (
            f"etcd {version} runs at {', '.join(places)}: its watches can lose events "
            f"(etcd#15220, #17529, #19179); upgrade to {old_version(version)} or later"
        )


def _short(error: str) -> str:
    """Of grpc's report of a connection that failed, the reason."""
    return error.rpartition("Failed to connect to remote host: ")[2]


def _of_cluster(report: dict[str, Any]) -> Iterator[str]:
    up = [each for each in report["endpoints"] if "error" not in each]
    voters = len(report.get("members") or report["endpoints"])
    if 0 < len(up) <= voters // 2:
        yield (
            f"{len(up)} of {voters} members answer, which is no majority: nothing can be written, "
            "and leases do not end"
        )
    if len({each["leader"] for each in up if each["leader"]}) > 1:
        yield "the endpoints disagree about the leader: an election, or two clusters in one URL"
    newest = max((each["revision"] for each in up), default=0)
    for each in up:
        if newest - each["revision"] > _LAG:
            yield f"{each['endpoint']} is {newest - each['revision']} revisions behind"
    members = report.get("members") or []
    if len(members) == 1:
        yield "the cluster has one member: when it goes, so does discovery (what is known stays)"
    elif members and len(members) % 2 == 0:
        yield f"the cluster has {len(members)} members: one fewer survives as many failures"
    known = {each["endpoint"] for each in report["endpoints"]}
    if len(members) > len(known):
        yield f"the URL names {len(known)} of {len(members)} members: name them all"


def _of_store(report: dict[str, Any]) -> Iterator[str]:
    for name, what in (("lease", "granting and revoking a lease"), ("watch", "the watch")):
        found = report[name]
        if "error" in found:
            yield f"{what} failed: {found['error']}"
    if "error" not in report["watch"] and report["watch"]["put_to_event_max"] > _SLOW:
        yield f"the watch lags: up to {report['watch']['put_to_event_max']:.2f} s behind a put"
    if "error" not in report["lease"] and report["lease"]["round_trip"] > _SLOW:
        yield f"a lease takes {report['lease']['round_trip']:.2f} s to grant and revoke"


def _of_registry(report: dict[str, Any]) -> Iterator[str]:
    found = report["registry"]
    if "error" in found:
        yield f"the registry could not be read: {found['error']}"
        return
    others = [each for each in found["origins"] if each != report["origin"]]
    if others:
        yield (
            f"instances are registered here under origin {', '.join(map(repr, others))} as well, "
            f"and this registry's is {report['origin']!r}: all who use one store give the same"
        )
    if found["malformed"]:
        yield (
            f"{len(found['malformed'])} keys hold no instance and are passed over, "
            f"{found['malformed'][0]!r} for example"
        )
    for name in found["stale_origins"]:
        yield f"the forwarder of origin {name!r} is out of reach: its instances may be out of date"
    if found["clock_ahead"] > 0.5:
        yield (
            f"an instance was registered {found['clock_ahead']:.1f} s in the future: "
            "its clock runs ahead of this one's"
        )

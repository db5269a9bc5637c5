"""What of a resource, a scope and a record becomes index labels, and what structured metadata.

Index labels are the few resource attributes that Loki's own OTLP endpoint takes for them
(``default_resource_attributes_as_index_labels`` of Loki 3); everything else is metadata of each
entry. So identifiers never become labels, and the same queries work whichever way logs came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._otlp_lenient import read
from ._prometheus_labels import braces, labels_of, merged
from ._prometheus_names import Translation, underscored_label

if TYPE_CHECKING:
    from ._otlp_values import Tally

INDEX: Final = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
)
"""Resource attributes that become index labels, the most telling first."""

LABELS: Final = 15
"""Index labels of a stream at most (``max_label_names_per_series``)."""

RESERVED: Final = frozenset(
    (
        *("event_name", "flags", "observed_timestamp", "scope_name", "scope_version"),
        *("severity_number", "severity_text", "span_id", "trace_id"),
    )
)
"""Names of metadata that come from fields of a record and its scope."""

_LEGACY: Final = Translation(underscores=True, suffixes=False)

Pairs = list[tuple[str, str]]


def split_resource(resource: Any, tally: Tally) -> tuple[Pairs, Pairs]:
    """Index labels, sorted, and metadata of a resource."""
    attributes = read(resource, "attributes", tally)
    found = labels_of(attributes, _LEGACY, "underscores", tally)
    by_key = {key: value for _, key, value in found if value}
    chosen = [key for key in INDEX if key in by_key][:LABELS]
    labels = [(underscored_label(key), by_key[key]) for key in chosen]
    if not labels:
        labels = [("service_name", "unknown_service")]  # a stream has at least one label
    return sorted(labels), merged([each for each in found if each[1] not in chosen])


def scope_metadata(scope: Any, tally: Tally) -> Pairs:
    """Metadata of a scope."""
    found = []
    for name in ("name", "version"):
        value = read(scope, name, tally)
        if value:
            found += labels_of({f"scope_{name}": value}, _LEGACY, "underscores", tally)
    found += labels_of(read(scope, "attributes", tally), _LEGACY, "underscores", tally)
    return merged(found)


def stream_labels(labels: Pairs) -> str:
    """Index labels as Loki's protobuf has them."""
    return braces(labels)


def together(record: Pairs, scope: Pairs, resource: Pairs) -> Pairs:
    """Metadata of all three; a name that is taken gets a prefix, so that nothing is lost."""
    found = list(record)
    taken = {name for name, _ in record}
    for prefix, pairs in (("scope_", scope), ("resource_", resource)):
        for name, value in pairs:
            while name in taken:
                name = prefix + name  # noqa: PLW2901 # the name that is left
            taken.add(name)
            found.append((name, value))
    return found


def record_metadata(attributes: Any, fields: Pairs, tally: Tally) -> Pairs:
    """Metadata of a record: its fields, then its attributes."""
    pairs = merged(labels_of(attributes, _LEGACY, "underscores", tally))
    return together(fields, [], []) + [
        (f"attribute_{name}" if name in RESERVED else name, value) for name, value in pairs
    ]

"""One page for a scraper: families in order, each with one type, each series once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from ._metrics_walk import EXPONENTIAL, HISTOGRAM, kind_of, points_of
from ._otlp_lenient import read
from ._otlp_values import Tally
from ._prometheus_kinds import COUNTER, HISTOGRAMS, Identity, identify, prometheus_kind, text_of
from ._prometheus_labels import braces, labels_of, merged, scope_labels
from ._prometheus_names import LEGACY, quoted
from ._prometheus_series import Lines, Shape

if TYPE_CHECKING:
    from ._prometheus_accept import TextFormat
    from ._prometheus_names import Translation

KEPT: Final = 4096
"""Metrics whose lines are kept from one scrape to the next."""


@attrs.frozen
class Exposition:
    """One answer to a scraper.

    Args:
        content_type: The value of ``Content-Type``.
        body: The text in UTF-8.
        points: Data points in it.
        unsupported: Points left out because Prometheus does not know their like: of delta
            temporality, or malformed.
        conflicts: Points left out because their name belongs to a metric of another kind.
        duplicates: Points left out because another one has the same name and labels.
        conflicting: The names that these two are about.
        repaired: Values that could not be shown as they were.
    """

    content_type: str
    body: bytes
    points: int
    unsupported: int = 0
    conflicts: int = 0
    duplicates: int = 0
    conflicting: tuple[str, ...] = ()
    repaired: int = 0


@attrs.frozen
class Options:
    """What `PrometheusText` was told."""

    translation: Translation
    scope_labels: bool
    target_info: bool
    resource_labels: frozenset[str]
    created: bool


class _Metric:
    """One metric of one scope: who it is and its lines."""

    __slots__ = ("identity", "lines", "resource", "scope")

    def __init__(self, identity: Identity, lines: Lines, resource: Any, scope: Any) -> None:
        self.identity = identity
        self.lines = lines
        self.resource = resource  # these two are kept alive: they are known by their ids
        self.scope = scope


class Writer:
    """What is kept for one format from one scrape to the next."""

    __slots__ = ("_kept", "format", "options")

    def __init__(self, form: TextFormat, options: Options) -> None:
        self.format = form
        self.options = options
        self._kept: dict[tuple[Any, ...], _Metric] = {}

    def metric(self, resource: Any, scope: Any, metric: Any, kind: str, tally: Tally) -> _Metric:
        """The metric as it was at an earlier scrape, or anew."""
        name = read(metric, "name", tally)
        unit = read(metric, "unit", tally)
        key = (id(resource), id(scope), name, unit, kind)
        try:
            found = self._kept.get(key)
        except TypeError:  # a name that cannot be a key
            return self._new(resource, scope, metric, kind, tally)
        if found is None:
            repaired = tally.repaired
            found = self._new(resource, scope, metric, kind, tally)
            if tally.repaired == repaired:
                if len(self._kept) >= KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _new(self, resource: Any, scope: Any, metric: Any, kind: str, tally: Tally) -> _Metric:
        options = self.options
        translation = options.translation
        escaping = self.format.escaping
        openmetrics = self.format.openmetrics
        identity = identify(metric, kind, translation, escaping, tally, openmetrics=openmetrics)
        labels = []
        if options.scope_labels:
            labels = scope_labels(scope, translation, escaping, tally)
        if options.resource_labels:
            attributes = read(resource, "attributes", tally)
            found = labels_of(attributes, translation, escaping, tally)
            labels += [each for each in found if each[1] in options.resource_labels]
        has_created = openmetrics and options.created and identity.kind in {COUNTER, HISTOGRAMS}
        shape = Shape(
            sample=identity.sample,
            created=identity.family if has_created else "",
            labels=tuple(labels),
            translation=translation,
            escaping=escaping,
            exemplars=openmetrics and identity.kind in {COUNTER, HISTOGRAMS},
            openmetrics=openmetrics,
            histogram=identity.kind == HISTOGRAMS,
        )
        return _Metric(identity, Lines(shape), resource, scope)


class _Family:
    """All series of one name."""

    __slots__ = ("description", "identity", "lines", "series")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.description = ""
        self.lines: list[str] = []
        self.series: list[str] = []


class Page:
    """One page in the making."""

    __slots__ = (
        "_claims",
        "_conflicting",
        "_conflicts",
        "_families",
        "_tally",
        "_target",
        "_writer",
    )

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._tally = Tally()
        self._families: dict[str, _Family] = {}
        self._claims: dict[str, str] = {}
        self._conflicting: dict[str, None] = {}
        self._conflicts = 0
        self._target: list[str] = []
        if writer.options.target_info:
            self._claims = {"target": "", "target_info": ""}  # nobody else's

    def add(self, resource: Any, scope: Any, metric: Any) -> None:
        """Put a metric on the page."""
        if not self._target and self._writer.options.target_info:
            self._target = self._target_info(resource)
        points = points_of(metric)
        data = read(metric, "data", self._tally)
        kind = prometheus_kind(data, self._tally)
        if not kind:
            self._tally.unsupported += len(points)
            return
        known = self._writer.metric(resource, scope, metric, kind, self._tally)
        family = self._family(known.identity)
        if family is None:
            self._conflicts += len(points)
            self._conflicting[known.identity.sample] = None
            return
        if not family.description:
            family.description = text_of(read(metric, "description", self._tally), self._tally)
        write = {HISTOGRAM: known.lines.histograms, EXPONENTIAL: known.lines.exponentials}.get(
            kind_of(data), known.lines.numbers
        )
        write(points, family.lines, family.series, self._tally)

    def _family(self, identity: Identity) -> _Family | None:
        """Where lines of this name go; ``None`` if the name is another kind's already."""
        found = self._families.get(identity.family)
        if found is not None:
            return found if found.identity.kind == identity.kind else None
        claims = identity.claims()
        if any(name in self._claims for name in claims):
            return None
        self._claims.update(dict.fromkeys(claims, identity.family))
        found = self._families[identity.family] = _Family(identity)
        return found

    def _target_info(self, resource: Any) -> list[str]:
        attributes = read(resource, "attributes", self._tally)
        form = self._writer.format
        labels = labels_of(attributes, self._writer.options.translation, form.escaping, self._tally)
        if not labels:
            return []
        return [
            "# TYPE target info" if form.openmetrics else "# TYPE target_info gauge",
            f"# HELP {'target' if form.openmetrics else 'target_info'} Target metadata",
            f"target_info{braces(merged(labels))} 1",
        ]

    def finish(self) -> Exposition:
        """The page as it is sent."""
        text = list(self._target)
        points = duplicates = 0
        for family in self._families.values():
            lines = family.lines
            if len(set(family.series)) != len(lines):
                lines = list(dict(zip(family.series[::-1], lines[::-1], strict=True)).values())[
                    ::-1
                ]
                duplicates += len(family.lines) - len(lines)
                self._conflicting[family.identity.sample] = None
            if lines:
                text += self._comments(family)
                text += lines
                points += len(lines)
        form = self._writer.format
        if form.openmetrics:
            text.append("# EOF")
        text.append("")
        return Exposition(
            content_type=form.content_type,
            body="\n".join(text).encode(),
            points=points,
            unsupported=self._tally.unsupported,
            conflicts=self._conflicts,
            duplicates=duplicates,
            conflicting=tuple(self._conflicting),
            repaired=self._tally.repaired,
        )

    def _comments(self, family: _Family) -> list[str]:
        identity = family.identity
        form = self._writer.format
        name = identity.family if LEGACY.fullmatch(identity.family) else quoted(identity.family)
        kind = "untyped" if identity.kind == "unknown" and not form.openmetrics else identity.kind
        found = [f"# TYPE {name} {kind}"]
        if form.openmetrics and identity.unit and identity.family.endswith(f"_{identity.unit}"):
            found.append(f"# UNIT {name} {identity.unit}")
        if family.description:
            description = family.description.replace("\\", "\\\\").replace("\n", "\\n")
            if form.openmetrics:
                description = description.replace('"', '\\"')
            found.append(f"# HELP {name} {description}")
        return found

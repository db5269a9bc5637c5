"""What is installed, and what each extra of hastack declares that it needs."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ("Need", "declared", "installed", "module_of")

# Modules of packages that are not called like their package.
_MODULES: Final = {
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health.v1.health",
    "grpcio-status": "grpc_status.rpc_status",
    "googleapis-common-protos": "google.rpc.error_details_pb2",
    "protobuf": "google.protobuf.message",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-sdk": "opentelemetry.sdk.trace",
    "backports.zstd": "backports.zstd",
}
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


@attrs.frozen
class Need:
    """One package that an extra needs.

    Args:
        package: Its name.
        spelled: The whole requirement, ``"click>=8.1"``.
        minimum: The oldest version that will do, ``"0"`` for any.
    """

    package: str
    spelled: str
    minimum: str

    @classmethod
    def of(cls, text: str) -> Need | None:
        """From a requirement; ``None`` when this interpreter does not need it."""
        spelled, _, marker = (part.strip() for part in text.partition(";"))
        if marker and not _applies(marker):
            return None
        package = re.match(r"[\w.-]+", spelled)
        minimum = re.search(r">=\s*([\d.]+)", spelled)
        return cls(package[0] if package else spelled, spelled, minimum[1] if minimum else "0")


def _applies(marker: str) -> bool:
    """Of markers, hastack uses the version of Python only."""
    import sys

    limit = re.search(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)['\"]", marker)
    if limit is None:
        return True
    older = sys.version_info[:2] < (int(limit[2]), int(limit[3]))
    return older if limit[1] == "<" else not older


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def module_of(package: str) -> str:
    """The module to import to see that a package works."""
    return _MODULES.get(package, package.lower().replace("-", "_"))


def declared() -> dict[str, tuple[Need, ...]]:
    """What each extra needs here, by name of the extra."""
    found: dict[str, list[Need]] = {}
    for extra, line in _lines():
        need = None if line.startswith("hastack[") else Need.of(line)
        if need is not None:
            found.setdefault(extra, []).append(need)
    return {extra: tuple(needs) for extra, needs in sorted(found.items())}


def _lines() -> list[tuple[str, str]]:
    project = _checkout()
    if project is not None:
        extras: dict[str, list[str]] = project["optional-dependencies"]
        return [(extra, line) for extra, lines in extras.items() for line in lines]
    try:
        lines = importlib.metadata.requires("hastack") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [(found[1], _without_extra(line)) for line in lines if (found := _EXTRA.search(line))]


def _without_extra(line: str) -> str:
    need, _, marker = line.partition(";")
    rest = [part.strip("() ") for part in marker.split(" and ") if not _EXTRA.search(part)]
    return f"{need.strip()}; {' and '.join(rest)}" if rest else need.strip()


def _checkout() -> dict[str, Any] | None:
    """What the sources themselves say; metadata of an editable install may be of an older day."""
    path = Path(__file__).resolve().parents[3] / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return None
    return project if project.get("name") == "hastack" else None

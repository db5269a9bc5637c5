"""Keeps what scripts/extras.py found: docs/extras.json, the tables of docs/extras.md, tested versions."""

from __future__ import annotations

import json
import platform
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("merge", "write")

Results = dict[str, dict[str, Any]]


def write(root: Path, results: Results) -> None:
    """Merge with what is known of extras that were not looked at this time, and write everything."""
    kept = root / "docs" / "extras.json"
    known: Results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    known = merge(known, results)
    kept.write_text(f"{json.dumps(known, indent=1, sort_keys=True)}\n", encoding="utf-8")
    page = root / "docs" / "extras.md"
    text = page.read_text("utf-8")
    for name, table in (("packages", packages(known)), ("imports", imports(known))):
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = mark.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
    page.write_text(text, encoding="utf-8")
    tested = root / "src" / "hastack" / "cli" / "doctor" / "_tested.py"
    head = tested.read_text("utf-8").partition("TESTED: Final")[0]
    lines = [f'    "{name}": ("{old}", "{new}"),' for name, (old, new) in ranges(known).items()]
    body = "\n".join(("TESTED: Final[dict[str, tuple[str, str]]] = {", *lines, "}", ""))
    tested.write_text(f"{head}{body}", encoding="utf-8")


def merge(known: Results, results: Results) -> Results:
    """What was found out now over what was known; nothing of a run that failed is kept."""
    merged = dict(known)
    for extra, found in results.items():
        oldest = found.get("lowest", {})
        if found["problems"] or oldest.get("problems"):
            continue
        one = {key: found[key] for key in ("packages", "imports", "features", "needs")}
        one["python"] = platform.python_version()
        # What was found with the oldest versions stays true while the bounds are the same.
        before = known.get(extra, {})
        if oldest:
            one["oldest"] = {name: oldest["packages"][name][0] for name in found["needs"]}
        elif before.get("needs") == found["needs"] and "oldest" in before:
            one["oldest"] = before["oldest"]
        merged[extra] = one
    return merged


def ranges(known: Results) -> dict[str, tuple[str, str]]:
    """Oldest and newest version tried of each package that an extra names."""
    found: dict[str, tuple[str, str]] = {}
    for one in known.values():
        for name in one["needs"]:
            newest = one["packages"][name][0]
            oldest = one.get("oldest", {}).get(name, newest)
            before = found.get(name, (oldest, newest))
            found[name] = (min(before[0], oldest, key=_key), max(before[1], newest, key=_key))
    return dict(sorted(found.items()))


def _key(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def packages(known: Results) -> str:
    """What each extra installs."""
    rows = ["| extra | packages, versions tried | installed in all | MB |", "|---|---|---:|---:|"]
    base = set(known.get("base", {}).get("packages", {}))
    for extra in _order(known):
        one = known[extra]
        names = [_range(name, one) for name in one["needs"]]
        own = {n: p for n, p in one["packages"].items() if n not in base or extra == "base"}
        size = sum(each[1] for each in own.values()) / 1e6
        label = "(none)" if extra == "base" else f"`{extra}`"
        rows.append(f"| {label} | {', '.join(names) or 'all of them'} | {len(own)} | {size:.1f} |")
    return "\n".join(rows)


def _range(name: str, one: dict[str, Any]) -> str:
    newest = one["packages"][name][0]
    oldest = one.get("oldest", {}).get(name, newest)
    return f"{name} {oldest} to {newest}" if oldest != newest else f"{name} {newest}"


def imports(known: Results) -> str:
    """What imports cost: hastack's modules, and what their packages cost by themselves."""
    rows = ["| | extra | ms | modules |", "|---|---|---:|---:|"]
    shown: set[str] = set()
    for extra in _order(known):
        if extra == "all":
            continue
        one = known[extra]
        for group, form in (("features", "`{}`"), ("imports", "{} alone")):
            for name, (took, count) in sorted(one[group].items()):
                if name in shown or took < 1.0:  # of several extras; or nothing but its name
                    continue
                shown.add(name)
                label = f"`{name}`" if name == "hastack" else form.format(name)
                rows.append(f"| {label} | {extra} | {took:.0f} | {count} |")
    return "\n".join(rows)


def _order(known: Results) -> list[str]:
    first = [name for name in ("base", "cli", "web") if name in known]
    rest = sorted(set(known) - {*first, "all", "compiled"})
    return [*first, *rest, *(["all"] if "all" in known else [])]

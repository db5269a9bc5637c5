"""Draw the import contract of pyproject.toml as docs/layers.svg, so that the picture cannot lie.

usage: draw_layers.py [--write]    without it, exit with 1 when the picture is not the contract's
"""

from __future__ import annotations

import re
import sys
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "layers.svg"

WIDTH, ROW, GAP = 720, 44, 18
SAYS = {
    "cli": "the hastack command",
    "contrib": "adapters: one module per host",
    "discovery": "stores, registry, balancing",
    "observe": "pipeline, instruments, logs",
    "ebpf": "objects in the kernel",
    "wasm": "plugins in a sandbox",
    "ratelimit": "guards: limiters, breaker, adaptive limits, policies",
    "_core": "clock, cancel tree, delivery, argument checks, optional imports",
}


def layers() -> list[list[str]]:
    """The layers of the contract, the highest first; those of one layer that are public."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (contract,) = tools["importlinter"]["contracts"]
    found = []
    for layer in contract["layers"]:
        names = re.findall(r"\w+", layer)
        shown = [name for name in names if not name.startswith("_")] or names
        found.append(shown)
    return [layer for layer in found if layer != ["__main__"]]


def independent(names: list[str]) -> bool:
    """Whether the parts of a layer do not know each other: joined by | in the contract."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return len(names) > 1 and re.search(rf"{names[0]}\W+\|\W+{names[1]}", text) is not None


def box(x: float, y: float, width: float, name: str, says: str) -> str:
    """One package."""
    middle = x + width / 2
    lines = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{ROW}" rx="6" />',
        f'<text class="name" x="{middle:g}" y="{y + (18 if says else 27):g}">{escape(name)}</text>',
    ]
    if says:
        lines.append(f'<text class="says" x="{middle:g}" y="{y + 34:g}">{escape(says)}</text>')
    return "\n".join(lines)


def row(names: list[str], y: float) -> list[str]:
    """One layer."""
    if len(names) > 4:  # they may know each other: one box
        return [
            box(
                0,
                y,
                WIDTH,
                " · ".join(names),
                "context, settings, events, errors, life of a service",
            )
        ]
    width = (WIDTH - GAP * (len(names) - 1)) / len(names)
    return [box(n * (width + GAP), y, width, name, SAYS[name]) for n, name in enumerate(names)]


def picture() -> str:
    """The whole drawing; colours are those of the text around it."""
    parts: list[str] = []
    y = 1.0
    for number, names in enumerate(layers()):
        if number:
            middle = WIDTH / 2
            parts.append(f'<path d="M{middle:g} {y - GAP + 1:g} v{GAP - 6:g} m-4 -5 l4 5 l4 -5" />')
        parts += row(names, y)
        if independent(names):
            parts += [
                f'<path class="apart" d="M{(n + 1) * (WIDTH + GAP) / len(names) - GAP / 2:g} '
                f'{y:g} v{ROW}" />'
                for n in range(len(names) - 1)
            ]
        y += ROW + GAP
    height = y - GAP + 1
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {WIDTH + 2} {height:g}" role="img" '
        'style="max-width: 46rem; width: 100%" aria-label="Layers of hastack; each imports only '
        'from those below it">\n'
        "<style>\n"
        ".layers rect, .layers path { fill: none; stroke: currentColor; stroke-width: 1.2 }\n"
        ".layers .apart { stroke-dasharray: 2 4; opacity: 0.6 }\n"
        ".layers text { fill: currentColor; text-anchor: middle }\n"
        ".layers .name { font: 600 14px ui-monospace, monospace }\n"
        ".layers .says { font: 11px system-ui, sans-serif; opacity: 0.85 }\n"
        "</style>\n"
        '<g class="layers">\n' + "\n".join(parts) + "\n</g>\n</svg>\n"
    )


def main() -> None:
    """Write the picture, or compare it."""
    drawn = picture()
    if "--write" in sys.argv[1:]:
        PICTURE.write_text(drawn, encoding="utf-8")
    elif not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != drawn:
        raise SystemExit(
            "docs/layers.svg is not the contract's: run scripts/draw_layers.py --write"
        )


if __name__ == "__main__":
    main()

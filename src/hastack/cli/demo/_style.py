"""The report's style sheet: light, dark and print; no fonts, images or scripts from elsewhere."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1a2027; --soft: #5b6672; --line: #dde2e8;
  --ok: #12836b; --late: #e0a100; --failed: #cc4036; --shed: #b4bdc8;
  --sick: #cc403618; --healthy: #12836b33; --open: #cc4036; --half: #e0a100; --wrong: #1a2027;
  --limit: #3c62c4; --p50: #8a97a6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11151a; --card: #1a2027; --ink: #e7ebf0; --soft: #9aa6b3; --line: #313a45;
    --ok: #35b597; --late: #e8b53a; --failed: #ea6a5f; --shed: #56616e;
    --sick: #ea6a5f24; --healthy: #35b5973d; --open: #ea6a5f; --half: #e8b53a; --wrong: #e7ebf0;
    --limit: #86a5f5; --p50: #76828f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 74rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .3rem 0; max-width: 46rem; }
.lead, .note, figcaption { color: var(--soft); }
.note { font-size: .87rem; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem 1.25rem; margin: 1.1rem 0; break-inside: avoid;
}
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
th { font-weight: 500; color: var(--soft); font-size: .85rem; vertical-align: bottom; }
tbody th { font-size: 1rem; color: var(--ink); }
th:first-child { text-align: left; padding-left: 0; }
td:last-child, th:last-child { padding-right: 0; }
td.best { font-weight: 700; }
td.fate, th.fate { text-align: left; min-width: 13rem; }
.wide { overflow-x: auto; }
.strategy > header { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline; }
.strategy > header p { color: var(--soft); font-size: .87rem; margin: 0; flex: 1 1 20rem; max-width: none; }
.charts { display: grid; grid-template-columns: 1.5fr 1fr 1fr; gap: .4rem 1.4rem; margin-top: .5rem; }
@media screen and (max-width: 760px) { .charts { grid-template-columns: 1fr; } }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .82rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; }
.mark { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
.sick { fill: var(--sick); }
.ok { fill: var(--ok); } .late { fill: var(--late); } .failed { fill: var(--failed); }
.shed { fill: var(--shed); }
.healthy { fill: var(--healthy); } .open { fill: var(--open); } .half { fill: var(--half); }
.grace { fill: var(--line); } .wrong { fill: var(--wrong); }
.p99, .p50, .limit { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.p99 { stroke: var(--ink); } .p50 { stroke: var(--p50); } .limit { stroke: var(--limit); }
.hit { fill: transparent; } .hit:hover { fill: #8884; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; font-size: .87rem; color: var(--soft); margin: .5rem 0 0; padding: 0; list-style: none; }
.legend svg { display: inline-block; width: 14px; height: 10px; margin-right: .4em; vertical-align: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; }
@media print {
  :root {
    --page: #fff; --card: #fff; --ink: #1a2027; --soft: #4a5561; --line: #d0d6dd;
    --ok: #12836b; --late: #e0a100; --failed: #cc4036; --shed: #b4bdc8; --sick: #cc403618;
    --healthy: #12836b33; --open: #cc4036; --half: #e0a100; --limit: #3c62c4; --p50: #8a97a6;
  }
  body { font-size: 11px; padding: 0; max-width: none; }
  section { margin: .6rem 0; padding: .6rem .8rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

"use strict";
// Every text reaches the page through textContent: names come from anybody.
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const base = location.pathname.replace(/\/+$/, "");
  const state = { paused: false, filter: "", last: null, shown: -1, unlocked: false, marks: new Map(), said: 0 };

  const store = (area, key, value) => {
    try {
      if (value === undefined) return area.getItem(key) || "";
      if (value) area.setItem(key, value); else area.removeItem(key);
    } catch { /* storage may be forbidden */ }
    return value || "";
  };

  // -- words -------------------------------------------------------------------------------
  const dash = "–";
  const number = (v, digits = 0) => v === null || v === undefined ? dash
    : v.toLocaleString("en-US", { maximumFractionDigits: digits });
  const rate = (v) => v === null || v === undefined ? dash : number(v, v >= 100 ? 0 : v >= 10 ? 1 : 2);
  const seconds = (v) => {
    if (v === null || v === undefined) return dash;
    if (v < 1) return v < 0.0005 ? "0 ms" : `${number(v * 1000, v < 0.01 ? 2 : v < 0.1 ? 1 : 0)} ms`;
    if (v < 90) return `${number(v, v < 10 ? 1 : 0)} s`;
    if (v < 5400) return `${number(v / 60)} min`;
    if (v < 129600) return `${number(v / 3600, 1)} h`;
    return `${number(v / 86400, 1)} d`;
  };
  const percent = (v) => `${number(v * 100, v && v < 0.1 ? 1 : 0)} %`;
  const sum = (rows, f) => rows.reduce((all, row) => all + (f(row) || 0), 0);
  const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many || one + "s"}`;

  // -- elements ----------------------------------------------------------------------------
  const make = (tag, cls, text) => {
    const el = document.createElement(tag);
    if (cls) el.className = cls;
    if (text !== undefined) el.textContent = text;
    return el;
  };
  const text = (el, value) => { if (el.textContent !== value) el.textContent = value; };
  const mark = (el, level, value) => {
    let inner = el.firstElementChild;
    if (!inner) {
      inner = el.appendChild(make("span"));
      const shape = inner.appendChild(make("span", "mark"));
      shape.setAttribute("aria-hidden", "true");
      inner.appendChild(make("span"));
    }
    const cls = `state ${level}`;
    if (inner.className !== cls) inner.className = cls;
    text(inner.lastElementChild, value);
  };

  // -- small charts ------------------------------------------------------------------------
  const W = 132, H = 30;
  const lineOf = (values, low, high, most) => {
    let d = "", pen = false, from = 0, area = "";
    const span = high - low || 1, step = W / Math.max(most - 1, 1), shift = most - values.length;
    values.forEach((v, i) => {
      const x = (i + shift) * step;
      if (v === null) { if (pen) area += `L${((i - 1 + shift) * step).toFixed(1)} ${H}L${from.toFixed(1)} ${H}Z`; pen = false; return; }
      const y = H - 2 - (v - low) / span * (H - 4);
      const point = `${x.toFixed(1)} ${y.toFixed(1)}`;
      if (!pen) { from = x; }
      d += (pen ? "L" : "M") + point;
      area += (pen ? "L" : "M") + point;
      pen = true;
    });
    if (pen) area += `L${W} ${H}L${from.toFixed(1)} ${H}Z`;
    return [d, area];
  };
  const part = (svg, tag, cls) => {
    const el = svg.appendChild(document.createElementNS(SVG, tag));
    el.setAttribute("class", cls);
    return el;
  };
  const spark = (el, series, word, floor = 0) => {
    const values = series[0] || [];
    const known = series.flat().filter((v) => v !== null);
    let svg = el.querySelector("svg");
    if (!svg) {
      svg = el.appendChild(document.createElementNS(SVG, "svg"));
      svg.setAttribute("class", "spark");
      svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
      svg.setAttribute("role", "img");
      part(svg, "path", "base").setAttribute("d", `M0 ${H - 1}H${W}`);
      part(svg, "path", "a0"); part(svg, "path", "l0"); part(svg, "path", "l1");
    }
    const high = Math.max(...known, floor + 1e-9), low = Math.min(...known, floor);
    const most = Math.max(values.length, 30);
    const [line, area] = lineOf(values, low, high, most);
    svg.querySelector(".a0").setAttribute("d", area);
    svg.querySelector(".l0").setAttribute("d", line);
    const other = series[1] || [];
    svg.querySelector(".l1").setAttribute("d", other.some((v) => v) ? lineOf(other, low, high, most)[0] : "");
    const label = known.length ? word(values.filter((v) => v !== null)) : "no values yet";
    if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
  };
  const range = (unit, show = (v) => number(v, 1)) => (known) => known.length
    ? `from ${show(Math.min(...known))} to ${show(Math.max(...known))}${unit}, now ${show(known[known.length - 1])}${unit}` : "no values yet";
  const HEIGHTS = { c: 6, o: 26, f: 26, h: 16, d: 3, w: 6 };
  const strip = (el, states) => {
    let svg = el.querySelector("svg");
    if (!svg) {
      svg = el.appendChild(document.createElementNS(SVG, "svg"));
      svg.setAttribute("class", "spark");
      svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
      svg.setAttribute("role", "img");
    }
    const runs = [];
    const most = Math.max(states.length, 30), shift = most - states.length;
    [...states].forEach((s, i) => {
      const lastRun = runs[runs.length - 1];
      if (lastRun && lastRun[0] === s) lastRun[2] = i + 1; else runs.push([s, i, i + 1]);
    });
    while (svg.childElementCount > runs.length) svg.lastElementChild.remove();
    runs.forEach(([s, from, to], i) => {
      const rect = svg.children[i] || svg.appendChild(document.createElementNS(SVG, "rect"));
      const h = HEIGHTS[s] || 4;
      rect.setAttribute("class", "cohfdw".includes(s) ? (s === "f" ? "o" : "dw".includes(s) ? "x" : s) : "x");
      rect.setAttribute("x", ((from + shift) / most * W).toFixed(2));
      rect.setAttribute("width", ((to - from) / most * W).toFixed(2));
      rect.setAttribute("y", H - h); rect.setAttribute("height", h);
    });
    const open = [...states].filter((s) => s === "o" || s === "f").length;
    svg.setAttribute("aria-label", `open in ${open} of the last ${states.length} looks`);
  };

  // -- columns -----------------------------------------------------------------------------
  const plain = (head, f, cls = "") => ({ head, cls, put: (el, row) => text(el, String(f(row))) });
  const num = (head, f) => plain(head, f, "num");
  const two = (head, f, g, cls = "") => ({
    head, cls, put: (el, row) => {
      const box = el.firstElementChild || el.appendChild(make("span", "two"));
      if (!box.firstElementChild) box.append(make("span"), make("span", "sub"));
      text(box.firstElementChild, f(row)); text(box.lastElementChild, g(row));
    },
  });
  const stateOf = (head, f) => ({ head, put: (el, row) => mark(el, ...f(row)) });
  const chart = (head, f) => ({ head, cls: "chart", put: f });
  const chips = (head, f) => ({
    head, cls: "wide", spare: true, put: (el, row) => {
      const wanted = f(row);
      el.classList.toggle("blank", !wanted.length);
      const box = el.firstElementChild || el.appendChild(make("span", "chips"));
      while (box.childElementCount > wanted.length) box.lastElementChild.remove();
      wanted.forEach((value, i) => text(box.children[i] || box.appendChild(make("span", "chip")), value));
    },
  });
  const acts = (f) => ({
    head: "Actions", cls: "acts", only: "actions", put: (el, row) => {
      const wanted = state.unlocked ? f(row) : [];
      const key = JSON.stringify(wanted.map((each) => each.label));
      if (el.dataset.key === key) return;
      el.dataset.key = key;
      el.replaceChildren(...wanted.map((each) => {
        const button = make("button", each.danger ? "danger" : "", each.label);
        button.type = "button";
        button.setAttribute("aria-label", `${each.label}: ${row.name}`);
        button.addEventListener("click", () => act(each, row));
        return button;
      }));
      el.classList.toggle("blank", !wanted.length);
    },
  });

  const BREAKER = { "closed": "good", "open": "bad", "half-open": "warn", "forced open": "bad", "disabled": "idle", "observe only": "idle" };
  const LIMITER = { open: ["good", "passing"], limiting: ["warn", "limiting"], queueing: ["warn", "queueing"], closed: ["idle", "closed"] };
  const PHASE = { serving: "good", new: "idle", stopped: "idle" };
  const VERDICT = { pass: "good", degraded: "warn", fail: "bad" };
  const INSTANCE = { present: "good", draining: "warn", unhealthy: "bad", lost: "bad", absent: "idle", closed: "idle", waiting: "warn", new: "idle" };
  const dropped = (row) => Object.values(row.dropped).reduce((a, b) => a + b, 0);
  const reasons = (map, show) => Object.entries(map).sort((a, b) => b[1] - a[1]).map(([k, v]) => `${k} ${show(v)}`);

  // -- sections ----------------------------------------------------------------------------
  // level: how bad a row is; the section's count in the navigation takes the worst.
  const SECTIONS = [
    { id: "lifecycles", title: "Lifecycle", level: (r) => PHASE[r.phase] || "warn", columns: [
      stateOf("Phase", (r) => [PHASE[r.phase] || "warn", r.phase.replace("_", " ")]),
      stateOf("Takes work", (r) => r.ready ? ["good", "yes"] : ["warn", "no"]),
      num("Shutdown within", (r) => seconds(r.budget)),
      chips("Components", (r) => r.components), chips("Errors", (r) => r.failed),
      acts(() => [{ label: "Drain and stop", action: "shutdown", danger: true, confirm: "Readiness goes false, listeners drain, and the service ends." }]),
    ] },
    { id: "health", title: "Health", level: (r) => r.live === "fail" ? "bad" : VERDICT[r.ready], columns: [
      stateOf("Live", (r) => [VERDICT[r.live] || "idle", r.live]),
      stateOf("Ready", (r) => [VERDICT[r.ready] || "idle", r.ready]),
      chips("Checks", (r) => r.checks.map((c) => `${c.ok === null ? "?" : c.ok ? "ok" : "failed"} ${c.name}${c.took === null ? "" : ", " + seconds(c.took)}${c.age === null ? "" : ", " + seconds(c.age) + " ago"}`)),
      chips("Against it", (r) => r.failing),
      acts((r) => [r.held ? { label: "Release", action: "release" } : { label: "Hold", action: "hold", confirm: "Readiness fails until it is released; nothing is stopped." }]),
    ] },
    { id: "breakers", title: "Circuit breakers", level: (r) => BREAKER[r.state] || "warn", columns: [
      stateOf("State", (r) => [BREAKER[r.state] || "warn", r.state]),
      chart("State over time", (el, r) => strip(el, r.states)),
      two("Failures", (r) => percent(r.failure_rate), (r) => `${number(r.failures)} of ${number(r.calls)}`, "num"),
      num("Slow", (r) => number(r.slow)),
      num("Calls/s", (r) => rate(r.call_rate)),
      two("Refused/s", (r) => rate(r.rejected_rate), (r) => r.rejected ? `${number(r.rejected)} in all` : "", "num"),
      num("Next try in", (r) => r.retry_after === null ? dash : seconds(r.retry_after)),
      acts((r) => [
        ...(r.state === "forced open" || r.state === "disabled" || r.state === "observe only" ? [] : [{ label: "Force open", action: "open", danger: true, confirm: "Every call is refused until it is closed again." }]),
        ...(r.state === "closed" ? [] : [{ label: "Close", action: "close" }]),
      ]),
    ] },
    { id: "adaptive", title: "Adaptive limits", level: (r) => r.rejected_rate ? "warn" : "good", columns: [
      two("Limit", (r) => number(r.limit), (r) => `${number(r.in_flight)} in flight${r.waiting ? `, ${number(r.waiting)} waiting` : ""}`, "num"),
      chart("Limit over time", (el, r) => spark(el, [r.history, r.in_flight_history], range(""))),
      two("Latency", (r) => r.latency ? seconds(r.latency) : dash, (r) => r.baseline ? `base ${seconds(r.baseline)}` : "", "num"),
      chart("Latency over time", (el, r) => spark(el, [r.latency_history], range("", seconds))),
      num("Allowed/s", (r) => rate(r.allowed_rate)),
      two("Refused/s", (r) => rate(r.rejected_rate), (r) => r.rejected ? `${number(r.rejected)} in all` : "", "num"),
    ] },
    { id: "limiters", title: "Limiters", sub: (r) => r.kind, level: (r) => (LIMITER[r.state] || ["idle"])[0], columns: [
      stateOf("State", (r) => LIMITER[r.state] || ["idle", r.state]),
      two("Limit", (r) => r.limit === null ? "" : number(r.limit, 2), (r) => r.unit, "num"),
      chart("Allowed, refused", (el, r) => spark(el, [r.history, r.rejected_history], range("/s"))),
      two("Allowed/s", (r) => rate(r.allowed_rate), (r) => `${number(r.allowed)} in all`, "num"),
      two("Refused/s", (r) => rate(r.rejected_rate), (r) => r.rejected ? `${number(r.rejected)} in all` : "", "num"),
      chips("By reason", (r) => reasons(r.reasons, (v) => `${rate(v)}/s`)),
      plain("Inside", (r) => r.in_flight !== null ? plural(r.in_flight, "call") : r.keys ? plural(r.keys, "key") : dash, "num"),
      num("Waiting", (r) => r.waiting ? number(r.waiting) : dash),
      acts((r) => r.adjustable ? [{ label: "Set limit", action: "limit", ask: "New limit", now: r.limit }] : []),
    ] },
    { id: "policies", title: "Retries, hedges, fallbacks", key: (r) => `${r.kind}/${r.name}`, columns: [
      plain("Kind", (r) => r.kind), num("Per second", (r) => rate(r.rate)), num("In all", (r) => number(r.total)),
    ] },
    { id: "services", title: "Registry", sub: (r) => `${r.namespace} in ${r.store}`, level: (r) => !r.complete || r.stale.length ? "warn" : r.instances.some((i) => INSTANCE[i.state] === "bad") ? "bad" : "good", columns: [
      stateOf("View", (r) => r.complete ? (r.stale.length ? ["warn", `stale: ${r.stale.join(", ")}`] : ["good", "complete"]) : ["warn", "incomplete"]),
      num("Certain", (r) => r.age < 1 ? "now" : `${seconds(r.age)} ago`),
      num("Instances", (r) => number(r.instances.length + r.hidden)),
      { head: "Instance, state, registered", cls: "wide", put: instances },
    ] },
    { id: "exporters", title: "Exporters", sub: (r) => r.signal, level: (r) => r.lost_rate ? "bad" : r.spilled ? "warn" : "good", columns: [
      stateOf("State", (r) => !r.balanced ? ["bad", "unbalanced"] : r.lost_rate ? ["bad", "losing"] : r.spilled ? ["warn", "spilling"] : r.queued > r.sent && r.queued > 1000 ? ["warn", "behind"] : ["good", "well"]),
      chart("Sent", (el, r) => spark(el, [r.history], range("/s"))),
      two("Made", (r) => number(r.emitted + r.recovered), (r) => `${rate(r.emitted_rate)}/s`, "num"),
      two("Sent", (r) => number(r.sent), (r) => `${rate(r.sent_rate)}/s`, "num"),
      num("Queued", (r) => number(r.queued + r.in_flight)), num("Spilled", (r) => number(r.spilled)),
      num("Dropped", (r) => number(dropped(r))),
      chips("Dropped because", (r) => reasons(r.dropped, number)),
    ] },
    { id: "engines", title: "Log engine", level: (r) => r.dropped ? "warn" : "good", columns: [
      num("Lines/s", (r) => rate(r.rate)), chart("Lines", (el, r) => spark(el, [r.history], range("/s"))),
      num("Lines", (r) => number(r.lines)), num("Records", (r) => number(r.records)), num("Rejects", (r) => number(r.rejects)),
      num("Lost", (r) => number(r.dropped)), chips("Formats", (r) => reasons(r.formats, number)),
    ] },
    { id: "schemas", title: "Log schemas", name: (r) => r.format, level: (r) => r.broken ? "warn" : "good", columns: [
      plain("Version", (r) => `${r.version}${r.pinned ? ", pinned" : ""}`, "num"), num("Records", (r) => number(r.records)),
      num("Broken values", (r) => number(r.broken)), num("Unknown fields", (r) => number(r.unknown)), chips("Fields", (r) => r.fields),
    ] },
    { id: "ebpf", title: "eBPF objects", level: (r) => r.lost ? "warn" : "good", columns: [
      chips("Programs", (r) => r.programs.map((p) => `${p.name}: ${p.type}${p.runs ? `, ${plural(p.runs, "run")}` : ""}`)),
      chips("Maps", (r) => r.maps.map((m) => `${m.name}: ${m.type}, ${number(m.max_entries)}`)),
      chips("Links", (r) => r.links.map((l) => `${l.program} → ${l.target}`)),
      chips("Readers", (r) => r.readers.map((b) => `${b.name}: ${plural(b.consumed, "event")}`)),
      num("Lost events", (r) => r.lost === null ? "not counted" : number(r.lost)),
    ] },
    { id: "plugins", title: "Wasm plugins", sub: (r) => r.kind, level: (r) => r.last && r.traps ? "warn" : "good", columns: [
      stateOf("State", (r) => [r.state === "active" ? "good" : "warn", r.state]),
      two("Version", (r) => r.version || dash, (r) => r.digest.slice(0, 12), "mono"),
      two("Calls/s", (r) => rate(r.call_rate), (r) => r.calls ? `${number(r.calls)} in all` : "", "num"),
      num("Instances", (r) => number(r.instances)),
      num("Traps", (r) => number(r.traps)), num("Swaps", (r) => number(r.swaps)), num("Taken back", (r) => number(r.rollbacks)),
      num("Refused", (r) => number(r.refused)), chips("Signed by", (r) => r.signed_by),
      chips("Last trouble", (r) => r.last ? [r.last] : []),
    ] },
    { id: "config", title: "Configuration", name: (r) => r.into, level: (r) => r.result === "refused" ? "bad" : "good", columns: [
      stateOf("Last reload", (r) => r.result === "refused" ? ["bad", "refused"] : ["good", r.result]),
      num("When", (r) => r.ago === null ? "at the start" : `${seconds(r.ago)} ago`),
      chips("Sources", (r) => r.sources), chips("Changed, or wrong", (r) => r.detail),
    ] },
    { id: "events", title: "Events", log: true, key: (r) => String(r.number), name: (r) => r.name, level: () => "idle", columns: [
      stateOf("Kind", (r) => [r.level === "info" ? "idle" : r.level, r.kind]),
      plain("What", (r) => r.text, "wide"), num("When", (r) => `${seconds(r.ago)} ago`),
    ] },
  ];
  function instances(el, row) {
    const box = el.firstElementChild || el.appendChild(make("span", "chips"));
    while (box.childElementCount > row.instances.length) box.lastElementChild.remove();
    row.instances.forEach((one, i) => {
      const chip = box.children[i] || box.appendChild(make("span", "chip"));
      const bits = [one.address, one.state, one.zone, one.since === null ? "" : seconds(one.since), one.own ? "own" : "", one.why];
      mark(chip, INSTANCE[one.state] || "warn", (one.id === one.address ? bits : [one.id, ...bits]).filter(Boolean).join(", "));
    });
  }

  // -- drawing -----------------------------------------------------------------------------
  const panels = new Map();
  const panelOf = (section) => {
    let panel = panels.get(section.id);
    if (panel) return panel;
    const el = make("section", "panel");
    el.id = `s-${section.id}`; el.tabIndex = -1;
    el.setAttribute("aria-labelledby", `h-${section.id}`);
    const title = el.appendChild(make("h2"));
    title.id = `h-${section.id}`;
    title.append(make("span", "", section.title), make("span", "count"));
    const box = el.appendChild(make("div", section.log ? "box log" : "box"));
    if (section.log) { box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", section.title); }
    const table = box.appendChild(make("table"));
    const head = table.appendChild(make("thead")).appendChild(make("tr"));
    const body = table.appendChild(make("tbody"));
    const item = make("li"), link = item.appendChild(make("a"));
    link.href = `#${el.id}`;
    link.append(make("span", "", section.title), make("span", "count"));
    panel = { section, el, title, head, body, item, link, rows: new Map(), columns: null };
    panels.set(section.id, panel);
    return panel;
  };
  const columnsOf = (panel, shot) => {
    const columns = panel.section.columns.filter((c) => !c.only || (shot[c.only] && state.unlocked));
    if (panel.columns && panel.columns.length === columns.length) return;
    panel.columns = columns;
    panel.head.replaceChildren(...["Name", ...columns.map((c) => c.head)].map((name, i) => {
      const th = make("th", i && (columns[i - 1].cls || "").includes("num") ? "num" : "", name);
      th.scope = "col";
      return th;
    }));
    panel.rows.clear(); panel.body.replaceChildren();
  };
  const ORDER = { bad: 0, warn: 1, good: 2, idle: 3 };
  const draw = (panel, rows, shot) => {
    const { section } = panel;
    columnsOf(panel, shot);
    const level = section.level || (() => "good");
    const name = section.name || ((r) => r.name);
    const shown = rows.filter((r) => !state.filter || JSON.stringify([name(r), r.kind || ""]).toLowerCase().includes(state.filter));
    const seen = new Set();
    let before = null;
    for (const row of shown) {
      const key = section.key ? section.key(row) : row.id;
      seen.add(key);
      let tr = panel.rows.get(key);
      if (!tr) {
        tr = make("tr");
        const th = tr.appendChild(make("th"));
        th.scope = "row";
        th.append(make("span"), make("span", "sub"));
        for (const column of panel.columns) {
          const td = tr.appendChild(make("td", column.cls || ""));
          td.dataset.label = column.head;
        }
        panel.rows.set(key, tr);
      }
      text(tr.firstElementChild.firstElementChild, name(row));
      text(tr.firstElementChild.lastElementChild, section.sub ? section.sub(row) : "");
      panel.columns.forEach((column, i) => column.put(tr.children[i + 1], row));
      tr.classList.toggle("lead", level(row) === "bad");
      const wanted = before ? before.nextElementSibling : panel.body.firstElementChild;
      if (wanted !== tr) panel.body.insertBefore(tr, wanted);
      before = tr;
    }
    for (const [key, tr] of panel.rows) if (!seen.has(key)) { tr.remove(); panel.rows.delete(key); }
    const hidden = (shot.hidden && shot.hidden[section.id]) || 0;
    const all = rows.length + hidden;
    // A column that says nothing in any row only takes room.
    panel.columns.forEach((column, i) => {
      if (!column.spare) return;
      const empty = [...panel.rows.values()].every((tr) => tr.children[i + 1].classList.contains("blank"));
      panel.head.children[i + 1].classList.toggle("none", empty);
      for (const tr of panel.rows.values()) tr.children[i + 1].classList.toggle("none", empty);
    });
    text(panel.title.lastElementChild, shown.length === all ? `${all}` : `${shown.length} of ${all}`);
    const worst = rows.map(level).sort((a, b) => ORDER[a] - ORDER[b])[0] || "good";
    const troubled = rows.filter((r) => level(r) === worst).length;
    const count = panel.link.lastElementChild;
    const cls = worst === "bad" || worst === "warn" ? `count ${worst}` : "count";
    if (count.className !== cls) count.className = cls;
    text(count, cls === "count" ? String(all) : `${worst === "bad" ? "■" : "▲"} ${troubled} of ${all}`);
  };
  const place = (parent, wanted) => {
    let before = null;
    for (const el of wanted) {
      const next = before ? before.nextElementSibling : parent.firstElementChild;
      if (next !== el) parent.insertBefore(el, next);
      before = el;
    }
    while (parent.childElementCount > wanted.length) parent.lastElementChild.remove();
  };

  const tiles = (shot) => {
    const guards = [...shot.limiters, ...shot.adaptive];
    const open = shot.breakers.filter((b) => b.state !== "closed" && b.state !== "disabled" && b.state !== "observe only").length;
    const known = new Map();
    for (const row of [...guards, ...shot.breakers]) known.set(row.name, Math.max(known.get(row.name) || 0, row.rejected_rate || 0));
    const refused = [...known.values()].reduce((a, b) => a + b, 0);
    const total = new Map();
    for (const row of [...guards, ...shot.breakers]) total.set(row.name, Math.max(total.get(row.name) || 0, row.rejected));
    const slowest = shot.adaptive.reduce((a, b) => b.latency > (a ? a.latency : 0) ? b : a, null);
    const lost = sum(shot.exporters, dropped);
    const out = [];
    if (shot.health.length) {
      const bad = shot.health.find((h) => h.live === "fail" || h.ready === "fail") || shot.health.find((h) => h.ready !== "pass");
      out.push(["Health", bad ? [bad.ready === "degraded" && bad.live === "pass" ? "warn" : "bad", bad.live === "fail" ? "not alive" : bad.ready === "fail" ? "not ready" : "degraded"] : ["good", "ready"], bad ? bad.failing[0] || "" : plural(sum(shot.health, (h) => h.checks.length), "check")]);
    } else if (shot.lifecycles.length) {
      const life = shot.lifecycles[0];
      out.push(["Lifecycle", [PHASE[life.phase] || "warn", life.phase.replace("_", " ")], life.name]);
    }
    if (guards.length) out.push(["Allowed", rate(sum(guards, (r) => r.allowed_rate)), plural(guards.length, "limit"), "/s"]);
    if (guards.length || shot.breakers.length) out.push(["Refused", rate(refused), `${number([...total.values()].reduce((a, b) => a + b, 0))} in all`, "/s"]);
    if (shot.breakers.length) out.push(["Breakers", open ? ["bad", `${open} open`] : ["good", "all closed"], plural(shot.breakers.length, "breaker")]);
    if (slowest) out.push(["Slowest latency", seconds(slowest.latency), slowest.name]);
    if (shot.services.length) out.push(["Instances", number(sum(shot.services, (s) => s.instances.length + s.hidden)), plural(shot.services.length, "service")]);
    if (shot.exporters.length) out.push(["Exported", number(sum(shot.exporters, (r) => r.sent)), lost ? `${number(lost)} dropped` : "nothing dropped"]);
    if (shot.plugins.length) out.push(["Plugin calls", rate(sum(shot.plugins, (r) => r.call_rate)), plural(sum(shot.plugins, (r) => r.kind === "swap" ? 0 : r.traps), "trap"), "/s"]);
    const dl = $("tiles");
    dl.hidden = !out.length;
    while (dl.childElementCount > out.length) dl.lastElementChild.remove();
    out.forEach(([label, value, note, unit], i) => {
      let tile = dl.children[i];
      const kind = Array.isArray(value) ? "state" : "value";
      if (!tile || tile.dataset.kind !== `${label} ${kind}`) {
        const fresh = make("div", "tile");
        fresh.dataset.kind = `${label} ${kind}`;
        fresh.append(make("dt", "", label), make("dd"), make("dd", "note"));
        if (kind === "value") fresh.children[1].append(make("span"), make("span", "unit"));
        if (tile) tile.replaceWith(fresh); else dl.append(fresh);
        tile = fresh;
      }
      const main = tile.children[1];
      if (kind === "state") mark(main, ...value);
      else { text(main.firstElementChild, value); text(main.lastElementChild, unit ? ` ${unit}` : ""); }
      text(tile.lastElementChild, note || ""); tile.lastElementChild.title = note || "";
    });
  };

  // Only what turned bad, or well again, is said aloud, and not more often than every 4 seconds.
  const announce = (shot) => {
    const news = [];
    const note = (key, value, words) => {
      const before = state.marks.get(key);
      if (before !== undefined && before !== value) news.push(words);
      state.marks.set(key, value);
    };
    for (const b of shot.breakers) note(b.id, b.state, `breaker ${b.name} is ${b.state}`);
    for (const h of shot.health) note(h.id, h.live + h.ready, `health of ${h.name}: ${h.ready}`);
    for (const l of shot.lifecycles) note(l.id, l.phase, `${l.name} is ${l.phase.replace("_", " ")}`);
    const now = Date.now();
    if (news.length && now - state.said > 4000) { state.said = now; text($("say"), news.slice(0, 3).join("; ")); }
  };

  const show = (shot) => {
    state.last = shot;
    document.title = `${shot.service} – hastack`;
    text($("service"), shot.service);
    text($("about"), `process ${shot.pid} · hastack ${shot.hastack} · up ${seconds(shot.uptime)} · a look takes ${seconds(shot.took)}`);
    $("unlock").hidden = !shot.actions;
    const wanted = [], links = [];
    for (const section of SECTIONS) {
      const rows = shot[section.id] || [];
      if (!rows.length) continue;
      const panel = panelOf(section);
      draw(panel, rows, shot);
      wanted.push(panel.el); links.push(panel.item);
    }
    place($("content"), wanted); place($("sections"), links);
    $("empty").hidden = wanted.some((el) => el.id !== "s-events");
    document.body.classList.toggle("bare", !wanted.length);
    const unread = Object.entries(shot.unreadable || {}).map(([key, why]) => `${key}: ${why}`);
    problem(unread.length ? `Could not be read: ${unread.slice(0, 3).join("; ")}` : "");
    tiles(shot); announce(shot);
    document.body.dataset.looks = String(shot.looks);
  };
  const problem = (words) => { $("problem").hidden = !words; text($("problem"), words); };

  // -- connection --------------------------------------------------------------------------
  const link = (kind, words) => {
    $("link").dataset.link = kind;
    text($("link-text"), words);
    document.body.classList.toggle("stale", kind === "lost");
  };
  const auth = () => {
    const token = store(sessionStorage, "hastack-read");
    return token ? { authorization: `Bearer ${token}` } : {};
  };
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const stream = async () => {
    const answer = await fetch(`${base}/events`, { headers: auth(), cache: "no-store", credentials: "same-origin" });
    if (answer.status === 401) {
      store(sessionStorage, "hastack-read", "");
      const given = await ask({ title: "A token is needed", text: "The service asks for a token before it shows anything.", label: "Token", secret: true });
      if (given) store(sessionStorage, "hastack-read", given);
      return false;
    }
    if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      text += value;
      let at;
      while ((at = text.indexOf("\n\n")) >= 0) {
        const message = text.slice(0, at);
        text = text.slice(at + 2);
        link("live", state.paused ? "paused" : "live");
        if (message.startsWith("data: ") && !state.paused) show(JSON.parse(message.slice(6)));
      }
    }
  };
  const run = async () => {
    let failures = 0;
    for (;;) {
      const began = Date.now();
      try {
        await stream();
        failures = Date.now() - began > 2000 ? 0 : failures + 1;
      } catch (error) {
        if (!failures) console.debug(String(error));
        failures += 1;
      }
      if (!failures) continue;
      const wait = Math.min(10000, 500 * 2 ** Math.min(failures, 5));
      if (failures > 1 || !state.last) {
        link("lost", `lost; again in ${Math.round(wait / 1000)} s`);
        if (failures === 2) text($("say"), "The connection to the service is lost");
      }
      await sleep(wait);
    }
  };

  // -- asking and acting -------------------------------------------------------------------
  let waiting = null;
  const ask = (what) => new Promise((done) => {
    if (waiting) { done(""); return; }
    waiting = done;
    text($("ask-title"), what.title); text($("ask-text"), what.text || ""); text($("ask-error"), what.error || "");
    const input = $("ask-value");
    $("ask-label").hidden = input.hidden = !what.label;
    text($("ask-label"), what.label || "");
    input.type = what.secret ? "password" : what.label ? "number" : "text";
    input.step = "any"; input.value = what.now === undefined || what.now === null ? "" : String(what.now);
    $("ask-ok").className = what.danger ? "danger" : "main";
    text($("ask-ok"), what.ok || "OK");
    $("ask").returnValue = "";
    $("ask").showModal();
    if (what.label) input.focus();
  });
  $("ask").addEventListener("close", () => {
    const done = waiting, ok = $("ask").returnValue === "ok", input = $("ask-value");
    waiting = null;
    const value = ok ? (input.hidden ? "yes" : input.value.trim()) : "";
    input.value = "";
    if (done) done(value);
  });
  // Enter in a form presses its first button, which is Cancel.
  $("ask-value").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); $("ask-ok").click(); }
  });
  const post = async (body) => {
    const answer = await fetch(`${base}/actions`, {
      method: "POST", cache: "no-store", credentials: "same-origin", body: JSON.stringify(body),
      headers: { "content-type": "application/json", authorization: `Bearer ${store(sessionStorage, "hastack-act")}` },
    });
    if (answer.status === 401) { state.unlocked = false; store(sessionStorage, "hastack-act", ""); unlockText(); return "The token was not accepted"; }
    const said = await answer.json().catch(() => ({ said: `the service answered ${answer.status}` }));
    return answer.ok ? "" : said.said;
  };
  const act = async (each, row) => {
    const body = { action: each.action, target: row.id };
    let error = "";
    for (;;) {
      if (each.confirm || each.ask || error) {
        const given = await ask({ title: `${each.label}: ${row.name}`, text: each.confirm, label: each.ask, now: each.now, ok: each.label, danger: each.danger, error });
        if (!given) return;
        if (each.ask) body.value = Number(given);
      }
      error = await post(body).catch(String);
      if (!error) { text($("say"), `${each.label}, ${row.name}: done`); return; }
    }
  };
  const unlockText = () => {
    text($("unlock"), state.unlocked ? "Lock actions" : "Unlock actions");
    if (state.last) show(state.last);
  };
  const unlock = async () => {
    if (state.unlocked) { state.unlocked = false; store(sessionStorage, "hastack-act", ""); unlockText(); return; }
    const given = await ask({ title: "Unlock actions", text: "Whatever you do is written to the service's log and events, with your name or token.", label: "Token", secret: true });
    if (!given) return;
    store(sessionStorage, "hastack-act", given);
    state.unlocked = true;
    unlockText();
  };

  // -- theme, keys -------------------------------------------------------------------------
  const THEMES = ["auto", "light", "dark"];
  const theme = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    text($("theme"), `Theme: ${name}`);
    store(localStorage, "hastack-theme", name === "auto" ? "" : name);
  };
  const nextTheme = () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "auto") + 1) % 3]);
  const pause = () => {
    state.paused = !state.paused;
    $("pause").setAttribute("aria-pressed", String(state.paused));
    text($("pause"), state.paused ? "Go on" : "Pause");
    if ($("link").dataset.link === "live") link("live", state.paused ? "paused" : "live");
  };
  const redraw = () => { if (state.last) show(state.last); };
  const step = (by) => {
    const list = [...$("content").children];
    if (!list.length) return;
    const top = list.findIndex((el) => el === document.activeElement || el.contains(document.activeElement));
    const to = top < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(top + by, 0), list.length - 1);
    list[to].focus({ preventScroll: true });
    list[to].scrollIntoView({ block: "start" });
    for (const panel of panels.values()) panel.link.removeAttribute("aria-current");
    const panel = panels.get(list[to].id.slice(2));
    if (panel) panel.link.setAttribute("aria-current", "true");
  };
  const KEYS = {
    j: () => step(1), k: () => step(-1), p: pause, t: nextTheme,
    g: () => { scrollTo({ top: 0 }); $("main").focus({ preventScroll: true }); },
    "/": () => $("filter").focus(), "?": () => $("keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target === $("filter")) {
      if (event.key === "Escape") { $("filter").value = ""; state.filter = ""; redraw(); $("main").focus({ preventScroll: true }); }
      return;
    }
    const found = KEYS[event.key];
    if (found) { event.preventDefault(); found(); }
  });
  $("filter").addEventListener("input", () => { state.filter = $("filter").value.trim().toLowerCase(); redraw(); });
  $("pause").addEventListener("click", pause);
  $("theme").addEventListener("click", nextTheme);
  $("unlock").addEventListener("click", unlock);
  $("help").addEventListener("click", () => $("keys").showModal());
  const kept = store(localStorage, "hastack-theme");
  theme(THEMES.includes(kept) ? kept : "auto");
  state.unlocked = Boolean(store(sessionStorage, "hastack-act"));
  text($("unlock"), state.unlocked ? "Lock actions" : "Unlock actions");
  run();
})();

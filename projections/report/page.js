"use strict";
// Draws the report. Whatever was recorded is put on the page with textContent alone.
(() => {
  const story = JSON.parse(document.getElementById("data").textContent);
  const byVersion = new Map(story.events.map((event) => [event.v, event]));
  const proof = story.verification;
  const PAGE = 200, MANY = 120;
  const at = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 2 });
  const time = (ms) => (Math.abs(ms) <= 8.64e15 && ms ? new Date(ms).toISOString().replace("T", " ").replace("Z", "") : `${ms || ""}`);

  function make(tag, name, text, ...inner) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...inner);
    return element;
  }

  function draw(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Fills a details element when it is opened for the first time.
  function folded(name, summary, fill) {
    const details = make("details", name, null, summary);
    details.addEventListener("toggle", () => { if (details.open && details.childElementCount === 1) fill(details); });
    return details;
  }

  // Appends items so many at a time, with a button for the next ones.
  function paged(where, items, build) {
    let shown = 0;
    const more = make("button");
    more.type = "button";
    const next = () => {
      for (const item of items.slice(shown, shown + MANY)) where.insertBefore(build(item), more);
      shown += MANY;
      more.textContent = `Show ${number(Math.min(MANY, items.length - shown))} more of ${number(items.length - shown)}`;
      more.hidden = shown >= items.length;
    };
    more.addEventListener("click", next);
    where.append(more);
    next();
  }

  function head() {
    const first = story.events[0], last = story.events[story.events.length - 1];
    at("session").textContent = story.session;
    at("span").textContent = first ? `${time(first.ms)} to ${time(last.ms)} UTC, namespace ${story.namespace}` : `No events, namespace ${story.namespace}`;
    at("made").textContent = `Made ${time(story.made_ms)} UTC by the server's clock. All times are UTC.`;
  }

  function verdict() {
    const wrong = proof.findings.length, banner = make("div", `banner ${wrong ? "bad" : proof.doubts.length ? "warn" : "good"}`);
    banner.append(make("strong", "", wrong ? "Not as it was" : proof.doubts.length ? "Not proved" : "Proved: everything that was sealed is as it was"));
    if (proof.unsealed_events && !wrong) banner.append(make("span", "", `${number(proof.unsealed_events)} of ${number(proof.events)} events are not covered by a seal.`));
    if (wrong || proof.doubts.length || proof.notes.length) {
      const list = make("ul");
      for (const finding of proof.findings) list.append(make("li", "", finding.version ? `Version ${finding.version}: ${finding.message}` : finding.message));
      for (const note of proof.notes) list.append(make("li", "", note));
      for (const doubt of proof.doubts) list.append(make("li", "", doubt));
      banner.append(list);
    }
    at("verdict").append(banner);
    const state = story.state, facts = [
      ["status", state.status ?? "active"], ["user", state.user_id ?? "nobody"], ["events", number(story.events.length)],
      ["messages recorded", number(state.message_count ?? 0)], ["in the history now", number(state.history_messages ?? 0)],
      ["requests", number(state.request_count ?? 0)], ["errors", number(state.error_count ?? 0)], ["processing time", `${number(state.total_processing_time ?? 0)} s`],
    ];
    for (const [name, value] of facts) at("facts").append(make("div", "", null, make("dt", "", name), make("dd", "", value)));
    seals();
  }

  function seals() {
    const marks = proof.marks;
    if (!marks.length) return;
    const details = folded("", make("summary", "", `${number(marks.length)} ${marks.length === 1 ? "seal" : "seals"} of this session`), (into) => {
      const body = make("tbody"), table = make("table", "", null, make("thead", "", null, make("tr", "", null, ...["seal", "made", "covers versions", "chain", "key"].map((name) => make("th", "", name)))), body);
      let before = 0;
      for (const mark of marks) {
        body.append(make("tr", "", null, make("td", "num", mark.number), make("td", "num", time(mark.sealed_ms)), make("td", "num", `${before + 1} to ${mark.version}`), make("td", "mono", mark.head.slice(0, 24) + "…"), make("td", "mono", mark.key.slice(0, 12) + "…")));
        before = mark.version;
      }
      into.append(table);
    });
    at("seals").append(details);
  }

  const PLOTS = [
    ["Messages in the history", 2, ""], ["Messages recorded", 3, ""], ["History size", 7, " bytes"],
    ["Requests", 4, ""], ["Errors", 5, ""], ["Processing time", 6, " s"],
  ];

  function nice(top) {
    const power = 10 ** Math.floor(Math.log10(top || 1));
    return [1, 2, 2.5, 5, 10].map((step) => step * power).find((value) => value >= top) || 1;
  }

  function plot([title, field, unit], x) {
    const points = story.metrics, W = 340, H = 150, L = 44, R = 10, T = 10, B = 20;
    const low = points[0][x], high = points[points.length - 1][x], top = nice(Math.max(...points.map((point) => point[field]), 1));
    const px = (value) => L + (high > low ? (value - low) / (high - low) : 0.5) * (W - L - R);
    const py = (value) => H - B - (value / top) * (H - T - B);
    const label = (value) => (x === 0 ? `v${number(value)}` : time(value).slice(5, 16));
    const reading = make("span", "", `${number(points[points.length - 1][field])}${unit}`);
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${reading.textContent} at the end, ${number(Math.max(...points.map((point) => point[field])))}${unit} at most` });
    for (const value of [0, top / 2, top]) {
      svg.append(draw("line", { class: "grid", x1: L, x2: W - R, y1: py(value), y2: py(value) }));
      svg.append(draw("text", { class: "tick", x: L - 6, y: py(value) + 3.5, "text-anchor": "end" }, value >= 10000 ? `${number(value / 1000)}k` : number(value)));
    }
    svg.append(draw("text", { class: "tick", x: L, y: H - 5 }, label(low)), draw("text", { class: "tick", x: W - R, y: H - 5, "text-anchor": "end" }, label(high)));
    if (field === 2 || field === 7) {
      for (const event of story.events) {
        if (event.type === "HistoryCompacted" || event.type === "HistoryCleared") {
          const where = px(x === 0 ? event.v : event.ms);
          svg.append(draw("line", { class: "mark", x1: where, x2: where, y1: T, y2: H - B }));
        }
      }
    }
    let path = `M${px(low)},${py(points[0][field])}`;
    for (const point of points.slice(1)) path += `H${px(point[x]).toFixed(1)}V${py(point[field]).toFixed(1)}`;
    svg.append(draw("path", { class: "area", d: `${path}V${py(0)}H${px(low)}Z` }), draw("path", { class: "curve", d: path }));
    const cursor = draw("line", { class: "cursor", y1: T, y2: H - B, visibility: "hidden" }), dot = draw("circle", { class: "dot", r: 4, visibility: "hidden" });
    svg.append(cursor, dot);
    const ending = reading.textContent;
    svg.addEventListener("pointermove", (pointer) => {
      const box = svg.getBoundingClientRect(), value = low + (((pointer.clientX - box.left) / box.width) * W - L) / (W - L - R) * (high - low);
      let a = 0, b = points.length - 1;
      while (a < b) { const middle = (a + b + 1) >> 1; if (points[middle][x] <= value) a = middle; else b = middle - 1; }
      const point = points[a];
      for (const name of ["x1", "x2"]) cursor.setAttribute(name, px(point[x]));
      dot.setAttribute("cx", px(point[x])); dot.setAttribute("cy", py(point[field]));
      for (const each of [cursor, dot]) each.setAttribute("visibility", "visible");
      reading.textContent = `${number(point[field])}${unit} at ${label(point[x])}`;
    });
    svg.addEventListener("pointerleave", () => { for (const each of [cursor, dot]) each.setAttribute("visibility", "hidden"); reading.textContent = ending; });
    return make("figure", "card plot", null, make("h3", "", title, reading), svg);
  }

  function plots(x) {
    at("by-version").setAttribute("aria-pressed", x === 0);
    at("by-time").setAttribute("aria-pressed", x === 1);
    at("plots").replaceChildren(...(story.metrics.length ? PLOTS.map((each) => plot(each, x)) : [make("p", "quiet", "No events yet.")]));
  }

  function block(each) {
    if (each.kind === "message") return message(byVersion.get(each.v));
    const title = each.kind === "cleared" ? "Cleared" : `Compacted: ${number(each.stands_for)} messages`;
    const how = each.kind === "cleared" ? `at version ${each.v}` : [each.strategy, each.summarizer && `written by ${each.summarizer}`, `version ${each.v}`, each.remark].filter(Boolean).join(", ");
    const summary = make("summary", "", title, make("span", "quiet", `  ${how}`));
    if (each.summary) summary.append(make("div", "text told", each.summary));
    const details = folded("spanned", summary, (into) => {
      const inside = make("div", "inside");
      into.append(inside);
      if (each.blocks.length) paged(inside, each.blocks, block); else inside.append(make("p", "quiet", "Nothing was in it."));
    });
    details.dataset.version = each.v;
    return details;
  }

  function message(event) {
    const told = event.message, link = make("a", "", `${time(event.ms).slice(0, 19)}  v${event.v}`);
    link.href = "#timeline";
    link.addEventListener("click", (click) => { click.preventDefault(); show(event.v); });
    const who = make("div", `who ${["user", "assistant", "tool", "system"].includes(told.role) ? told.role : "system"}`, told.role + (told.name ? ` (${told.name})` : ""), link);
    const body = make("div", "", null, make("div", told.plain ? "text" : "text code", told.text));
    for (const call of told.calls ?? []) body.append(make("div", "call", `${call.name || "call"}(${call.arguments})${call.id ? `   ${call.id}` : ""}`));
    if (told.answers) body.append(make("div", "quiet", `answers ${told.answers}`));
    return make("div", "message", null, who, body);
  }

  function talk() {
    if (!story.conversation.length) at("talk").append(make("p", "quiet", "There are no messages."));
    else paged(at("talk"), story.conversation, block);
  }

  function values() {
    if (!story.contexts.length) at("values").append(make("p", "quiet", "No context value was ever set."));
    for (const { key, changes } of story.contexts) {
      const last = changes[changes.length - 1], card = make("div", "card value", null, make("h3", "", key));
      card.append("value" in last ? make("pre", "", last.value) : make("p", "quiet", "deleted"));
      card.append(folded("", make("summary", "quiet", `${number(changes.length)} ${changes.length === 1 ? "change" : "changes"}, the last one ${time(last.ms)} at version ${last.v}`), (into) => {
        const list = make("div");
        into.append(list);
        paged(list, [...changes].reverse(), (change) => make("div", "", null, make("div", "quiet", `version ${change.v}, ${time(change.ms)}`), "value" in change ? make("pre", "", change.value) : make("p", "", "deleted")));
      }));
      at("values").append(card);
    }
  }

  // The timeline.
  const off = new Set();
  let found = [], shown = 0;
  const suspect = new Set(proof.findings.map((finding) => finding.version));

  function types() {
    const counts = new Map();
    for (const event of story.events) counts.set(event.type, (counts.get(event.type) ?? 0) + 1);
    for (const [type, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      const button = make("button", "", `${type} `, make("span", "", number(count)));
      button.type = "button";
      button.dataset.type = type;
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!off.delete(type)) off.add(type);
        button.setAttribute("aria-pressed", !off.has(type));
        filter();
      });
      at("types").append(button);
    }
  }

  function filter() {
    const wanted = at("search").value.trim().toLowerCase(), from = Number(at("from").value) || 0, to = Number(at("to").value) || Infinity;
    found = story.events.filter((event) => !off.has(event.type) && event.v >= from && event.v <= to && (!wanted || event.text.includes(wanted)));
    at("count").textContent = found.length === story.events.length ? `${number(found.length)} events` : `${number(found.length)} of ${number(story.events.length)} events`;
    at("events").replaceChildren();
    shown = 0;
    more();
  }

  function more() {
    for (const event of found.slice(shown, shown + PAGE)) at("events").append(row(event));
    shown = Math.min(found.length, shown + PAGE);
    at("more").hidden = shown >= found.length;
    at("more").textContent = `Show ${number(Math.min(PAGE, found.length - shown))} more of ${number(found.length - shown)}`;
  }

  function row(event) {
    const summary = make("summary", "", null, make("span", "v", event.v), make("span", "when", time(event.ms)), make("span", "type", event.type), make("span", "sum", event.summary));
    const details = folded("", summary, (into) => {
      const facts = [`event ${event.id || "without id"}`, event.actor && `actor ${event.actor}`, event.occurred && `occurred ${event.occurred}`];
      into.append(make("div", "inner", null, make("div", "quiet", facts.filter(Boolean).join(", ")), make("pre", "", event.raw)));
    });
    const item = make("li", suspect.has(event.v) ? "bad" : "", null, details);
    item.dataset.version = event.v;
    return item;
  }

  // Shows an event among those around it.
  function show(version) {
    reset();
    if (found.length > PAGE) {
      at("from").value = Math.max(1, version - PAGE / 4);
      at("to").value = version + PAGE / 4;
      filter();
    }
    const item = at("events").querySelector(`[data-version="${version}"]`), details = item.querySelector("details");
    details.open = true;
    details.querySelector("summary").focus({ preventScroll: true });
    requestAnimationFrame(() => item.scrollIntoView({ block: "center" }));
  }

  function reset() {
    off.clear();
    for (const button of at("types").children) button.setAttribute("aria-pressed", "true");
    for (const id of ["search", "from", "to"]) at(id).value = "";
    filter();
  }

  function keys(event) {
    const typing = event.target.tagName === "INPUT";
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    if (event.key === "/") { event.preventDefault(); at("search").focus(); }
    if (event.key === "j" || event.key === "k") {
      const all = [...at("events").querySelectorAll("summary")], here = all.indexOf(document.activeElement);
      if (event.key === "j" && here === all.length - 1 && shown < found.length) { more(); return keys(event); }
      const next = all[here < 0 ? 0 : Math.max(0, Math.min(all.length - 1, here + (event.key === "j" ? 1 : -1)))];
      if (next) next.focus();
    }
  }

  for (const event of story.events) event.text = `${event.type} ${event.id} ${event.summary} ${event.raw}`.toLowerCase();
  head();
  verdict();
  at("metrics-remark").textContent = story.remark ?? "";
  plots(0);
  talk();
  values();
  types();
  filter();
  at("by-version").addEventListener("click", () => plots(0));
  at("by-time").addEventListener("click", () => plots(1));
  at("more").addEventListener("click", more);
  at("reset").addEventListener("click", reset);
  for (const id of ["search", "from", "to"]) at(id).addEventListener("input", filter);
  document.addEventListener("keydown", keys);
})();

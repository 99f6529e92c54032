"use strict";
// Timelines above each other on one axis of time. Only what is visible is drawn: a row per line of pixels at most, so
// that 50,000 chunks cost as much as 500.

function showTimelines(root, shared, timelines) {
  const ROW = 14, FLIGHT = 56, AXIS = 18, MOST = 520, LEAST_NS = 1000;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const longest = Math.max(...timelines.map((t) => t.span), 1);
  const view = { begin: 0, end: longest, what: "reader" };
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const ms = (ns) => (ns === null || ns === undefined ? "unknown" : (ns / 1e6).toFixed(ns < 1e8 ? 3 : 1) + " ms");

  root.replaceChildren();
  document.getElementById("tip")?.remove();
  showTimelines.leave?.abort();
  const leave = showTimelines.leave = new AbortController();
  const tools = root.appendChild(make("div", undefined, "tools"));
  const button = (text, label, act) => {
    const made = tools.appendChild(make("button", text));
    made.type = "button"; made.title = label; made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
  };
  const whats = [["reader", "as the reader saw it"], ["wire", "on the wire"], ["optimum", "optimal schedule"]]
    .filter(([what]) => timelines.some((t) => t.views[what]));
  const choice = tools.appendChild(make("label", "Times "));
  const select = choice.appendChild(make("select"));
  select.id = "what";
  for (const [what, text] of whats) select.add(new Option(text, what));
  select.addEventListener("change", () => { view.what = select.value; draw(); });
  button("+", "Zoom in", () => zoom(0.5, (view.begin + view.end) / 2));
  button("−", "Zoom out", () => zoom(2, (view.begin + view.end) / 2));
  button("All", "Show everything", () => { view.begin = 0; view.end = longest; draw(); });
  tools.appendChild(make("span", "wheel: zoom, with shift: rows; drag: move", "soft"));

  const known = new Set(timelines.flatMap((t) => Object.values(t.views).flatMap(
    (v) => v.t.flatMap((column, event) => (column.some((time) => time !== null) ? [shared.ending[event]] : [])))));
  const legend = root.appendChild(make("ul", undefined, "legend"));
  shared.stages.forEach((stage, number) => {
    if (!known.has(number) || stage.key === "send_wait") return;
    const item = legend.appendChild(make("li"));
    item.appendChild(make("i")).style.background = stage.colour;
    item.append(stage.name);
  });
  for (const term of shared.terms) root.appendChild(make("p", term, "soft"));

  const tip = document.body.appendChild(make("div"));
  tip.id = "tip"; tip.hidden = true;

  const panels = timelines.map((timeline) => panel(timeline));

  function panel(timeline) {
    root.appendChild(make("h2", timeline.title));
    if (timeline.failures.length) root.appendChild(make("p", "Not valid: " + timeline.failures.join("; "), "bad"));
    root.appendChild(make("p", timeline.sentence));
    root.appendChild(make("p", timeline.facts, "soft"));
    const bar = root.appendChild(make("div", undefined, "path"));
    bar.title = "the critical path, from its largest part";
    const colours = Object.fromEntries(shared.stages.map((stage) => [stage.key, stage.colour]));
    const total = timeline.critical.reduce((sum, part) => sum + part.seconds, 0) || 1;
    for (const part of timeline.critical) {
      const piece = bar.appendChild(make("i"));
      piece.style.width = 100 * part.seconds / total + "%";
      piece.style.background = colours[part.key] || "var(--area)";
      piece.title = `${part.name}: ${(part.seconds * 1e3).toFixed(2)} ms, ${Math.round(100 * part.seconds / total)} % of the critical path`;
    }
    root.appendChild(table(timeline));
    const state = { timeline, rows: timeline.names.map((_, number) => number), top: 0, height: 0 };
    if (timeline.keys.length > 1) root.appendChild(shards(state));
    state.canvas = root.appendChild(make("canvas"));
    state.canvas.tabIndex = 0;
    state.canvas.setAttribute("role", "img");
    state.canvas.setAttribute("aria-label", timeline.sentence);
    for (const note of timeline.notes) root.appendChild(make("p", note, "soft"));
    const versions = Object.entries(timeline.versions).map((pair) => pair.join(" ")).join(", ");
    if (versions) root.appendChild(make("p", versions, "soft"));
    listen(state);
    return state;
  }

  function table(timeline) {
    const details = make("details");
    details.appendChild(make("summary", "Stages in figures"));
    const body = details.appendChild(make("table"));
    const row = (cells, tag) => {
      const line = body.insertRow();
      for (const cell of cells) line.appendChild(make(tag, cell));
    };
    row(["stage", "median of a chunk", "sum over chunks", "on the critical path"], "th");
    const path = Object.fromEntries(timeline.critical.map((part) => [part.key, part.seconds]));
    for (const stage of timeline.stage_seconds) {
      row([stage.name, ms(stage.median * 1e9), ms(stage.sum * 1e9), ms((path[stage.key] || 0) * 1e9)], "td");
      delete path[stage.key];
    }
    for (const part of timeline.critical) if (part.key in path) row([part.name, "", "", ms(part.seconds * 1e9)], "td");
    return details;
  }

  function shards(state) {
    const tool = make("div", undefined, "tools");
    const label = tool.appendChild(make("label", "Shard "));
    const choose = label.appendChild(make("select"));
    choose.className = "shard";
    choose.add(new Option(`all ${state.timeline.keys.length}`, ""));
    state.timeline.keys.forEach((key, number) => choose.add(new Option(key, number)));
    choose.addEventListener("change", () => {
      const wanted = choose.value === "" ? null : Number(choose.value);
      state.rows = state.timeline.names.map((_, number) => number)
        .filter((number) => wanted === null || state.timeline.key[number] === wanted);
      state.top = 0;
      draw();
    });
    return tool;
  }

  function shown(state) { return state.timeline.views[view.what] || state.timeline.views.reader; }

  // Rows as high as fit: all of them where there is room, at least one per pixel.
  function layout(state) {
    const width = state.canvas.clientWidth, many = state.rows.length;
    const room = Math.min(MOST, Math.max(many * ROW, ROW));
    const high = Math.max(ROW * many <= MOST ? ROW : MOST / many, state.zoomed || 0);
    state.row = high; state.room = room; state.width = width;
    state.left = high >= 9 && width > 500 ? 120 : 8;
    state.top = Math.max(0, Math.min(state.top, many * high - room));
    return room + AXIS + FLIGHT + 8;
  }

  function draw() {
    for (const state of panels) paint(state);
    window.timelineView = { ...view };
  }

  function paint(state) {
    const height = layout(state), scale = window.devicePixelRatio || 1, { canvas, width, left } = state;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const per = (width - left - 8) / (view.end - view.begin), x = (ns) => left + (ns - view.begin) * per;
    state.x = x; state.per = per;
    grid(state, pen, height);
    pen.save();
    pen.beginPath(); pen.rect(left, 0, width - left - 8, height); pen.clip();
    rows(state, pen, x);
    flight(state, pen, x);
    pen.restore();
    if (left > 100) names(state, pen);
  }

  function lines(state) {
    const step = Math.max(1, 1 / state.row), first = Math.floor(state.top / state.row), found = [];
    for (let row = first; row < state.rows.length; row += step) {
      const y = row * state.row - state.top;
      if (y >= state.room) break;
      found.push([state.rows[Math.floor(row)], y]);
    }
    return found;
  }

  function rows(state, pen, x) {
    const times = shown(state).t, thick = Math.max(1, state.row >= 6 ? state.row - 3 : state.row);
    const rects = shared.stages.map(() => []);
    for (const [chunk, y] of lines(state)) {
      let before = 0;
      for (let event = 0; event < times.length; event++) {
        const time = times[event][chunk];
        if (time === null) continue;
        if (event > 0 && time >= view.begin && before <= view.end) {
          const from = x(before), wide = Math.max(x(time) - from, time > before ? 0.6 : 0);
          if (wide > 0) rects[shared.ending[event]].push(from, y, wide);
        }
        before = time;
      }
    }
    rects.forEach((list, stage) => {
      if (!list.length) return;
      pen.fillStyle = shared.stages[stage].colour;
      for (let at = 0; at < list.length; at += 3) pen.fillRect(list[at], list[at + 1], list[at + 2], thick);
    });
  }

  function names(state, pen) {
    pen.fillStyle = css("--soft"); pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle";
    for (const [chunk, y] of lines(state)) pen.fillText(state.timeline.names[chunk], 6, y + state.row / 2, state.left - 12);
  }

  function grid(state, pen, height) {
    const wanted = Math.max(3, Math.floor(state.width / 110)), span = view.end - view.begin;
    let step = 10 ** Math.floor(Math.log10(span / wanted));
    for (const times of [1, 2, 5, 10]) if (span / (step * times) <= wanted) { step *= times; break; }
    pen.strokeStyle = css("--line"); pen.fillStyle = css("--soft"); pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "top";
    for (let at = Math.ceil(view.begin / step) * step; at <= view.end; at += step) {
      const place = state.x(at);
      pen.beginPath(); pen.moveTo(place, 0); pen.lineTo(place, height); pen.stroke();
      pen.fillText(+(at / 1e6).toFixed(6) + " ms", place + 3, state.room + 3, 90);
    }
  }

  function flight(state, pen, x) {
    const steps = shown(state).flight, most = Math.max(...steps.map((step) => step[1]), 1);
    const base = state.room + AXIS + FLIGHT, high = FLIGHT - 14;
    pen.fillStyle = css("--area"); pen.beginPath(); pen.moveTo(x(0), base);
    for (const [time, number] of steps) {
      pen.lineTo(x(time), pen.lastY || base);
      pen.lineTo(x(time), pen.lastY = base - number / most * high);
    }
    pen.lastY = undefined;
    pen.lineTo(x(steps.length ? steps[steps.length - 1][0] : 0), base); pen.fill();
    pen.fillStyle = css("--soft"); pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "top";
    pen.fillText(`requests in flight, at most ${steps.length ? most : 0}`, state.left + 3, state.room + AXIS);
  }

  function zoom(factor, around) {
    const span = Math.min(longest, Math.max(LEAST_NS, (view.end - view.begin) * factor));
    const share = (around - view.begin) / (view.end - view.begin);
    move(around - share * span, span);
  }

  function move(begin, span) {
    view.begin = Math.max(0, Math.min(begin, longest - span));
    view.end = view.begin + span;
    draw();
  }

  function listen(state) {
    const { canvas } = state, at = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const time = (place) => view.begin + (place.x - state.left) / state.per;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.shiftKey) {
        const row = state.row, y = at(event).y;
        state.zoomed = Math.min(ROW, Math.max(MOST / state.rows.length, row * Math.exp(-(event.deltaY || event.deltaX) / 300)));
        state.top = (state.top + y) * state.zoomed / row - y;
        paint(state);
      } else zoom(Math.exp(event.deltaY / 400), time(at(event)));
      hover(event);
    }, { passive: false });
    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, at(event)); tip.hidden = true; });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId), now = at(event);
      if (!before) return hover(event);
      const other = [...fingers].find(([id]) => id !== event.pointerId);
      fingers.set(event.pointerId, now);
      if (other) {
        const was = Math.abs(before.x - other[1].x), is = Math.abs(now.x - other[1].x);
        if (was > 4 && is > 4) zoom(was / is, time({ x: (now.x + other[1].x) / 2 }));
      } else {
        state.top += before.y - now.y;
        move(view.begin + (before.x - now.x) / state.per, view.end - view.begin);
      }
    });
    canvas.addEventListener("keydown", (event) => {
      const span = view.end - view.begin;
      const act = { ArrowLeft: () => move(view.begin - span / 8, span), ArrowRight: () => move(view.begin + span / 8, span),
        "+": () => zoom(0.7, view.begin + span / 2), "-": () => zoom(1.4, view.begin + span / 2) }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    function hover(event) {
      const place = at(event), row = Math.floor((place.y + state.top) / state.row);
      if (place.y >= state.room || row < 0 || row >= state.rows.length) { tip.hidden = true; return; }
      tip.replaceChildren(...about(state, state.rows[row]));
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)) + "px";
    }
  }

  const TIMES = { sent: "1 GET sent", first_byte: "2 first byte", last_byte: "3 last byte", decode_start: "4 decode starts",
    decoded: "decoded", shard_copy_start: "copy into shard's array starts", shard_copy: "copied into shard's array",
    copy_start: "copy into final array starts", copied: "5 copied into final array" };

  function about(state, chunk) {
    const { timeline } = state, begin = timeline.offset[chunk], body = make("table"), range = timeline.range[chunk];
    const head = make("b", `chunk ${timeline.names[chunk]}`);
    const where = make("div", `${timeline.keys[timeline.key[chunk]]} bytes ${begin}–${begin + timeline.length[chunk]}`);
    const request = make("div", `request ${timeline.request[chunk]}` + (range ? `, bytes ${range[0]}–${range[1]}` : ""), "soft");
    const times = shown(state).t;
    shared.times.forEach((name, event) => {
      const time = times[event][chunk];
      if (time === null && !["sent", "first_byte", "last_byte", "decode_start", "copied"].includes(name)) return;
      const line = body.insertRow();
      line.insertCell().textContent = TIMES[name];
      line.insertCell().textContent = ms(time);
    });
    return [head, where, request, body];
  }

  window.addEventListener("resize", draw, { signal: leave.signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal: leave.signal });
  draw();
}

"use strict";
(function () {
    const data = JSON.parse(document.getElementById("data").textContent);
    const LIMIT = data.network_limit;
    const MARKS = {
      "cpu-bound": "cpu",
      "in-flight": "in flight",
      "new-connections": "conn",
      "other-traffic": "traffic",
      "below-limit": "< limit",
      "no-manifest": "agreed",
    };
    const choice = {metric: "", version: "", place: "", baseline: ""};

    function byId(id) {
        return document.getElementById(id);
    }

    /* Make an element; children are elements or texts, and texts are never read as markup. */
    function make(tag, attributes, ...children) {
        const element = document.createElement(tag);
        for (const [name, value] of Object.entries(attributes || {})) {
            element.setAttribute(name, value);
        }
        element.append(...children.filter((child) => child !== null && child !== undefined));
        return element;
    }

    /* What is chosen. */

    function place() {
        return data.places.find((p) => p.name === choice.place);
    }

    function version() {
        return place().versions.find((v) => v.name === choice.version);
    }

    function metric() {
        return data.metrics.find((m) => m.key === choice.metric);
    }

    /* Statistics; harness/results.py holds the same rules for the terminal. */

    function interval(values) {
        const known = values.filter((v) => v !== null).sort((a, b) => a - b);
        if (!known.length) {
            return null;
        }
        const middle = known.length >> 1;
        const median = known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
        const [leftOut, coverage] = data.ranks[known.length];
        return {median, low: known[leftOut], high: known[known.length - 1 - leftOut], coverage, count: known.length};
    }

    function quotient(a, b) {
        return a === null || a === undefined || !b ? null : a / b;
    }

    /* Return the ratio of a row to the base row of the same pass; without an interval where rounds cannot be paired. */
    function ratio(row, base, key) {
        const mine = row.values[key] || [];
        const theirs = base.values[key] || [];
        if (row.reader !== LIMIT && base.reader !== LIMIT) {
            const rounds = Math.min(mine.length, theirs.length);
            return interval(mine.slice(0, rounds).map((value, i) => quotient(value, theirs[i])));
        }
        if (key === "seconds" && row.reader !== base.reader) {
            return row.reader === LIMIT
                ? interval((base.values.times_slower || []).map((value) => quotient(1, value)))
                : interval(row.values.times_slower || []);
        }
        const one = interval(mine);
        const other = interval(theirs);
        const of = one && other ? quotient(one.median, other.median) : null;
        return of === null ? null : {median: of, low: of, high: of, coverage: 0, count: 0};
    }

    function number(value) {
        return value === Math.round(value) || Math.abs(value) >= 99.95 ? value.toFixed(0) : value.toPrecision(3);
    }

    /* Return a ratio with two decimals, or more where it is small. */
    function times(value) {
        return value < 0.0995 ? value.toPrecision(2) : value < 9.995 ? value.toFixed(2) : value.toPrecision(3);
    }

    /* Selectors, and the address that remembers them. */

    function fill(id, names, titles) {
        const select = byId(id);
        select.replaceChildren(...names.map((name, i) => make("option", {value: name}, titles ? titles[i] : name)));
    }

    function fillMetrics() {
        const groups = new Map();
        for (const m of data.metrics) {
            if (!groups.has(m.group)) {
                groups.set(m.group, make("optgroup", {label: m.group}));
            }
            groups.get(m.group).append(make("option", {value: m.key}, m.title + (m.unit ? ` (${m.unit})` : "")));
        }
        byId("metric").replaceChildren(...groups.values());
    }

    function valid(wanted, names, otherwise) {
        return names.includes(wanted) ? wanted : names.includes(otherwise) ? otherwise : names[0];
    }

    /* Settle every choice: what is asked for where it exists, else the newest version and the usual baseline. */
    function settle(wanted) {
        choice.metric = valid(wanted.metric, data.metrics.map((m) => m.key), data.default_metric);
        const places = data.places.map((p) => p.name);
        choice.place = valid(wanted.place, places);
        const versions = place().versions.map((v) => v.name);
        choice.version = valid(wanted.version, versions, versions[versions.length - 1]);
        const readers = version().readers;
        choice.baseline = valid(wanted.baseline, readers, data.default_baseline);
        fill("place", places);
        fill("version", versions.slice().reverse());
        fill("baseline", readers);
        for (const name of Object.keys(choice)) {
            byId(name).value = choice[name];
        }
    }

    function fromAddress() {
        return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    }

    function toAddress() {
        history.replaceState(null, "", "#" + new URLSearchParams(choice));
    }

    /* The table. */

    function breakable(name) {
        return name.split(/(?<=[+-])/).flatMap((part) => [part, document.createElement("wbr")]);
    }

    function rowsByWorkload() {
        const workloads = new Map();
        for (const row of version().rows) {
            const key = JSON.stringify(row.key);
            if (!workloads.has(key)) {
                workloads.set(key, {pattern: row.pattern, title: row.workload, detail: row.detail, rows: new Map()});
            }
            workloads.get(key).rows.set(row.reader, row);
        }
        return [...workloads.values()];
    }

    function verdict(of) {
        const better = metric().better;
        if (!of || !better || of.coverage < data.sure || (of.low <= 1 && of.high >= 1)) {
            return "";
        }
        return (of.median < 1) === (better === "lower") ? "better" : "worse";
    }

    function ratioText(row, base) {
        if (!base || base === row) {
            return null;
        }
        const of = ratio(row, base, choice.metric);
        if (!of) {
            return null;
        }
        const kind = verdict(of);
        const sign = of.median < 1 ? "↓" : of.median > 1 ? "↑" : "=";
        const range = of.count ? `${times(of.low)} to ${times(of.high)}` : "of the medians, no interval";
        const title = `${times(of.median)} times ${choice.baseline} (${range})${kind ? ", " + kind : ""}`;
        return make("span", {class: `ratio ${kind}`, title}, `${sign}${times(of.median)}×`);
    }

    function bar(of, scale) {
        const percent = (value) => `${(100 * value) / scale}%`;
        const fill = make("i");
        fill.style.width = percent(of.median);
        const mark = make("b");
        mark.style.left = percent(of.low);
        mark.style.width = percent(of.high - of.low);
        return make("span", {class: "bar", "aria-hidden": "true"}, fill, of.count > 1 ? mark : null);
    }

    function marks(row) {
        const found = Object.entries(row.flags);
        if (!found.length) {
            return null;
        }
        return make("div", {class: "marks"}, ...found.map(([flag, count]) => make(
            "abbr",
            {
                class: 2 * count < row.count ? "few" : "most",
                title: `${count} of ${row.count} samples: ${data.flags[flag] || flag}`,
            },
            MARKS[flag] || flag, count < row.count ? ` ${count}/${row.count}` : "",
        )));
    }

    function noFigure(row, notes) {
        const reason = row.na !== null ? row.na : row.error !== null ? row.error : null;
        if (reason === null) {
            return make("span", {class: "none", title: "not known of this reader"}, "–");
        }
        if (!notes.has(reason)) {
            notes.set(reason, {number: notes.size + 1, readers: new Set(), failed: row.na === null});
        }
        const note = notes.get(reason);
        note.readers.add(row.reader);
        const link = make("a", {href: `#note-${note.number}`, class: "note"}, `${note.number}`);
        link.addEventListener("click", (event) => {
            event.preventDefault(); // the address holds the choices
            byId(`note-${note.number}`).scrollIntoView({block: "center"});
        });
        const [kind, text] = row.na !== null ? ["none", "n/a"] : ["failed", "failed"];
        return make("span", {class: kind, title: reason}, text, make("sup", {}, link));
    }

    function cell(reader, workload, shown, notes) {
        const row = workload.rows.get(reader);
        const td = make("td", {"data-reader": reader, class: reader === LIMIT ? "limit" : ""});
        const of = shown.intervals.get(reader);
        if (!of) {
            td.append(row ? noFigure(row, notes) : make("span", {class: "none", title: "not measured"}, "–"));
            return td;
        }
        if (of.median === shown.best) {
            td.classList.add("best");
        }
        const factor = metric().factor;
        td.append(make(
            "div", {},
            make(
                "div", {class: "figures"},
                make("span", {class: "value", "data-value": of.median}, number(of.median * factor)),
                ratioText(row, workload.rows.get(choice.baseline)),
            ),
            bar(of, shown.scale),
            of.low === of.high
                ? null
                : make("div", {class: "range"}, `${number(of.low * factor)} – ${number(of.high * factor)}`),
            marks(row),
        ));
        return td;
    }

    /* The best value stands out only where it is not everyone's: the limit is no contestant. */
    function best(intervals) {
        const medians = [...intervals].filter(([reader, of]) => of && reader !== LIMIT).map(([, of]) => of.median);
        if (!metric().better || medians.every((median) => median === medians[0])) {
            return null;
        }
        return metric().better === "lower" ? Math.min(...medians) : Math.max(...medians);
    }

    function line(workload, readers, notes) {
        const intervals = new Map(readers.map((reader) => {
            const row = workload.rows.get(reader);
            return [reader, row ? interval(row.values[choice.metric] || []) : null];
        }));
        const highest = [...intervals.values()].map((of) => (of ? of.high : 0));
        const shown = {intervals, scale: Math.max(...highest) || 1, best: best(intervals)};
        return make(
            "tr", {},
            make("th", {scope: "row"}, workload.title, make("small", {}, workload.detail)),
            ...readers.map((reader) => cell(reader, workload, shown, notes)),
        );
    }

    function drawTable() {
        const readers = version().readers;
        const notes = new Map();
        const heads = readers.map((reader) => make(
            "th", {scope: "col", class: reader === LIMIT ? "limit" : ""},
            ...breakable(reader), reader === choice.baseline ? make("small", {}, "baseline") : null,
        ));
        const groups = new Map();
        for (const workload of rowsByWorkload()) {
            if (!groups.has(workload.pattern)) {
                const title = workload.pattern.replaceAll("_", " ");
                const head = make("th", {scope: "rowgroup", colspan: readers.length + 1}, title);
                groups.set(workload.pattern, make("tbody", {}, make("tr", {class: "group"}, head)));
            }
            groups.get(workload.pattern).append(line(workload, readers, notes));
        }
        const header = make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "Workload"), ...heads));
        byId("table").replaceChildren(header, ...groups.values());
        byId("table").style.minWidth = innerWidth > 760 ? `${9.5 + 7 * readers.length}rem` : "";
        drawNotes(notes);
    }

    /* What stands around the table. */

    function drawNotes(notes) {
        byId("notes").hidden = !notes.size;
        byId("notes").querySelector("ol").replaceChildren(...[...notes].map(([reason, note]) => make(
            "li", {id: `note-${note.number}`},
            make("strong", {}, [...note.readers].join(", ")), `${note.failed ? " failed" : ""}: ${reason}`,
        )));
    }

    function drawMarks() {
        const used = [...new Set(version().rows.flatMap((row) => Object.keys(row.flags)))];
        byId("marks").hidden = !used.length;
        byId("marks").querySelector("dl").replaceChildren(...used.flatMap((flag) => [
            make("dt", {}, MARKS[flag] || flag), make("dd", {}, data.flags[flag] || flag),
        ]));
    }

    function drawNotices() {
        const at = place();
        const lines = at.notices.map((notice) => make("p", {class: "drift"}, notice));
        if (!lines.length && at.compared) {
            lines.push(make("p", {class: "still"}, "No drift of the machine was seen between versions: no time of "
                + `${at.controls.join(" or ")}, whose code is the same in all, moved by more than ${at.drift_percent} % `
                + `with intervals apart (${at.compared} compared).`));
        }
        byId("notices").replaceChildren(...lines);
    }

    function drawLegend() {
        const m = metric();
        const direction = m.better ? `${m.better === "lower" ? "Lower" : "Higher"} is better.` : "Neither direction is better.";
        byId("legend").textContent = `${m.title}${m.unit ? `, ${m.unit}` : ""}. ${direction} ${m.note} `
            + `×: relative to ${choice.baseline}${m.better ? "; blue is better, brown is worse" : ""}.`;
    }

    function drawCoverage() {
        const counts = [...new Set(version().rows.map((row) => row.count).filter((count) => count))].sort((a, b) => a - b);
        byId("coverage").textContent = counts.length
            ? "It covers " + counts.map((n) => `${(100 * data.ranks[n][1]).toFixed(1)} % with ${n} samples`).join(", ") + "."
            : "";
    }

    function drawRuns() {
        byId("runs").replaceChildren(...version().runs.map((run) => make(
            "p", {},
            `${run.pattern}: ${run.started}, ${run.machine} (${run.cpu}, ${run.cores} cores), Python ${run.python}, `
            + `${run.rounds} rounds asked for${run.budget_seconds ? ` within ${run.budget_seconds} s per workload` : ""}`
            + `${run.commit ? `, commit ${run.commit.slice(0, 12)}` : ""}.`,
        )));
    }

    function drawLibraries() {
        byId("libraries").replaceChildren(...version().readers.map((reader) => {
            const used = Object.entries(version().libraries[reader] || {}).map(([name, of]) => `${name} ${of}`);
            return make("div", {}, make("dt", {}, reader), make("dd", {}, used.join(", ") || "not known"));
        }));
    }

    function draw() {
        drawTable();
        drawMarks();
        drawNotices();
        drawLegend();
        drawCoverage();
        drawRuns();
        drawLibraries();
    }

    function update(wanted) {
        settle(wanted);
        toAddress();
        draw();
    }

    byId("project").textContent = data.project;
    document.title = `Readers of ${data.project}`;
    fillMetrics();
    for (const name of Object.keys(choice)) {
        byId(name).addEventListener("change", (event) => update({...choice, [name]: event.target.value}));
    }
    addEventListener("hashchange", () => update(fromAddress()));
    addEventListener("resize", drawTable);
    update(fromAddress());
})();

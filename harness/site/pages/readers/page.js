"use strict";
(function () {
    const data = JSON.parse(document.getElementById("data").textContent);
    const LIMIT = data.network_limit;
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

    /* Draw a ratio, which the data hold as a text: median, the ends of its interval where it has one, and + or -
       where it is better or worse for sure. */
    function ratioText(ratio) {
        if (!ratio) {
            return null;
        }
        const [median, ...rest] = ratio.split(" ");
        const kind = {"+": "better", "-": "worse"}[rest.at(-1)] || "";
        const sign = median < 1 ? "↓" : median > 1 ? "↑" : "=";
        const range = rest.length ? `${rest[0]} to ${rest[1]}` : "no interval";
        const title = `${median} times ${choice.baseline} (${range})${kind ? ", " + kind : ""}`;
        return make("span", {class: `ratio ${kind}`, title}, `${sign}${median}×`);
    }

    /* Draw a value, which is its median, the ends of its interval where they differ, or how few samples there are. */
    function bar([median, low = median, high = low], scale) {
        const percent = (part) => `${(100 * part) / scale}%`;
        const fill = make("i");
        fill.style.width = percent(median);
        const mark = make("b");
        mark.style.left = percent(low);
        mark.style.width = percent(high - low);
        return make("span", {class: "bar", "aria-hidden": "true"}, fill, isFew(low) ? null : mark);
    }

    function processes(row) {
        return `${row.processes} process${row.processes === 1 ? "" : "es"}`;
    }

    function isFew(text) {
        return text.startsWith("n=");
    }

    function highest(value) {
        return Number(value.findLast((text) => !isFew(text)));
    }

    /* A record of another version of this repository can hold a flag that is not in the list. */
    function known(flag) {
        return data.flags[flag] || {mark: flag, meaning: flag};
    }

    function meaning(flag, row) {
        const cause = flag === "in-flight" && row.few_in_flight ? `; ${row.few_in_flight}` : "";
        return known(flag).meaning + cause;
    }

    function marks(row) {
        const found = Object.entries(row.flags);
        const settings = row.settings ? [make("abbr", {class: "settings", title: row.settings}, "settings")] : [];
        if (!found.length && !settings.length) {
            return null;
        }
        return make("div", {class: "marks"}, ...found.map(([flag, count]) => make(
            "abbr",
            {
                class: 2 * count < row.count ? "few" : "most",
                title: `${count} of ${row.count} samples: ${meaning(flag, row)}`,
            },
            known(flag).mark, count < row.count ? ` ${count}/${row.count}` : "",
        )), ...settings);
    }

    /* Why a row has no ratio to the limit, or one below 1; null where neither has to be said. */
    function limitNote(row) {
        return choice.metric === "times_slower" && row.limit_note ? row.limit_note : null;
    }

    function noFigure(reader, row, notes) {
        const reason = row.na ?? row.error ?? limitNote(row);
        if (reason === null) {
            return make("span", {class: "none", title: "not known of this reader"}, "–");
        }
        if (!notes.has(reason)) {
            notes.set(reason, {number: notes.size + 1, readers: new Set(), failed: row.error !== null});
        }
        const note = notes.get(reason);
        note.readers.add(reader);
        const link = make("a", {href: `#note-${note.number}`, class: "note"}, `${note.number}`);
        link.addEventListener("click", (event) => {
            event.preventDefault(); // the address holds the choices
            byId(`note-${note.number}`).scrollIntoView({block: "center"});
        });
        const [kind, text] = row.error !== null ? ["failed", "failed"] : ["none", row.na !== null ? "n/a" : "–"];
        return make("span", {class: kind, title: reason}, text, make("sup", {}, link));
    }

    /* Make the cell of the reader in a column; figures hold a text per value, and of a ratio to every baseline. */
    function cell(reader, column, workload, shown, notes) {
        const row = workload.rows[column];
        const td = make("td", {"data-reader": reader, class: reader === LIMIT ? "limit" : ""});
        const value = shown.values[column];
        if (!value) {
            td.append(row ? noFigure(reader, row, notes) : make("span", {class: "none", title: "not measured"}, "–"));
            return td;
        }
        if (shown.best.includes(column)) {
            td.classList.add("best");
        }
        const [median, ...rest] = value;
        td.append(make(
            "div", {},
            make("div", {class: "figures"}, make("span", {class: "value"}, median), ratioText(shown.ratios[column])),
            bar(value, shown.scale),
            rest.length ? make("div", {class: "range"}, rest.join(" – ")) : null,
            make("div", {class: "rests"}, processes(row)),
            limitNote(row) ? make("div", {class: "rests"}, limitNote(row)) : null,
            marks(row),
        ));
        return td;
    }

    function line(workload, readers, notes) {
        const detail = [workload.detail, workload.floor].filter(Boolean).join(", ");
        const {values = [], best = [], ratios = []} = workload.figures[choice.metric] || {};
        const shown = {values, best, ratios: ratios[readers.indexOf(choice.baseline)] || []};
        shown.scale = Math.max(...values.map((value) => (value ? highest(value) : 0))) || 1;
        return make(
            "tr", {},
            make("th", {scope: "row"}, workload.title, make("small", {}, detail)),
            ...readers.map((reader, column) => cell(reader, column, workload, shown, notes)),
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
        for (const workload of version().workloads) {
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
        const used = [...new Set(version().workloads.flatMap(
            (workload) => workload.rows.flatMap((row) => Object.keys(row?.flags || {}))))];
        byId("marks").hidden = !used.length;
        byId("marks").querySelector("dl").replaceChildren(...used.flatMap((flag) => [
            make("dt", {}, known(flag).mark), make("dd", {}, known(flag).meaning),
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
        byId("legend").textContent = `${m.title}${m.unit ? `, ${m.unit}` : ""}. ${direction} ${m.meaning} `
            + `×: relative to ${choice.baseline}${m.better ? "; blue is better, brown is worse" : ""}.`;
    }

    function drawCoverage() {
        byId("coverage").textContent = version().coverage;
    }

    function drawRuns() {
        byId("runs").replaceChildren(...version().runs.map((run) => make(
            "p", {},
            `${run.pattern}: ${run.started}, ${run.machine} (${run.cpu}, ${run.cores} cores), Python ${run.python}, `
            + `${run.rounds} rounds in ${run.sessions} session${run.sessions === 1 ? "" : "s"} asked for`
            + `${run.budget_seconds ? ` within ${run.budget_seconds} s per workload` : ""}`
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

    fillMetrics();
    for (const name of Object.keys(choice)) {
        byId(name).addEventListener("change", (event) => update({...choice, [name]: event.target.value}));
    }
    addEventListener("hashchange", () => update(fromAddress()));
    addEventListener("resize", drawTable);
    update(fromAddress());
})();

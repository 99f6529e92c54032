"use strict";
// Which recordings are shown; each is a script beside the page that is loaded when it is wanted. The choice is in the
// address, so that a link can name one: #read=one shard&reader=zarrs&commit=v3.3.0

const shared = JSON.parse(document.getElementById("data").textContent), loaded = new Map(), waiting = new Map();
const form = document.getElementById("choices"), viewer = document.getElementById("viewer"), NOTHING = shared.alone;
let asked = 0;

function zcbLoaded(number, timeline) {
  loaded.set(number, timeline);
  waiting.get(number)?.(timeline);
}

function load(number) {
  if (loaded.has(number)) return Promise.resolve(loaded.get(number));
  return new Promise((resolve, reject) => {
    waiting.set(number, resolve);
    const script = document.createElement("script");
    script.src = `timelines/${number}.js`;
    script.onerror = () => reject(new Error(`timelines/${number}.js is missing beside this page`));
    document.head.append(script);
  });
}

const values = (key) => [...new Set(shared.index.map((one) => one[key]))];
const field = (name, text, options) => {
  const label = form.appendChild(document.createElement("label"));
  label.append(text + " ");
  const select = label.appendChild(document.createElement("select"));
  select.id = name;
  for (const option of options) select.add(new Option(option));
  select.addEventListener("change", show);
  return select;
};

const commits = values("commit"), readers = values("reader");
const choices = {
  place: field("place", "Read from", values("place")),
  read: field("read", "Read", values("read")),
  reader: field("reader", "Reader", readers),
  commit: field("commit", "Version", commits),
  reader2: field("reader2", "beside", [NOTHING, ...readers]),
  commit2: field("commit2", "Version", commits),
};

function restore() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const start = { commit: commits[0], reader: readers.includes("zarr-python+obstore") ? "zarr-python+obstore" : readers[0],
    commit2: commits[commits.length - 1] };
  start.reader2 = commits.length > 1 ? start.reader : NOTHING;
  for (const [name, select] of Object.entries(choices)) {
    const value = wanted.get(name) ?? start[name];
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }
  show();
}

async function show() {
  const turn = ++asked, chosen = Object.fromEntries(Object.entries(choices).map(([name, select]) => [name, select.value]));
  choices.commit2.disabled = chosen.reader2 === NOTHING;
  history.replaceState(null, "", "#" + new URLSearchParams(chosen));
  const find = (reader, commit) => shared.index.findIndex((one) => one.place === chosen.place && one.read === chosen.read
    && one.reader === reader && one.commit === commit);
  const wanted = [[chosen.reader, chosen.commit]];
  if (chosen.reader2 !== NOTHING) wanted.push([chosen.reader2, chosen.commit2]);
  const numbers = wanted.map((pair) => find(...pair)), missing = wanted.filter((_, at) => numbers[at] < 0);
  try {
    const found = await Promise.all(numbers.filter((number) => number >= 0).map(load));
    if (turn !== asked) return;
    if (found.length) showTimelines(viewer, shared, found.map((one, at) => ({ ...one, title: `${commitOf(numbers, at)}: ${one.title}` })));
    else viewer.replaceChildren();
    for (const [reader, commit] of missing) tell(`There is no recording of ${reader} at ${commit} on this read.`);
  } catch (error) {
    viewer.replaceChildren();
    tell(error.message);
  }
}

const commitOf = (numbers, at) => shared.index[numbers.filter((number) => number >= 0)[at]].commit;

function tell(text) {
  const line = document.createElement("p");
  line.className = "bad";
  line.textContent = text;
  viewer.prepend(line);
}

window.addEventListener("hashchange", restore);
restore();

// The page: search as one types, two releases side by side, what serves, and what it costs.
//
// Everything that comes from the service is set as text, never as HTML. Places in texts come counted in code points,
// so texts are taken apart as such. Nothing is kept but keys, in this tab's session storage.

const TYPING_MS = 120;
const DEADLINE_MS = 5000;
const TOP = 10;
const COMPARED_TIMES = 5; // of which the median is shown
const PERSISTENCE = 0.9; // of rank-biased overlap: the first ten ranks have 86% of the weight
const LIVE_S = 60;
const STAGE_NAMES = { classify: "intent", tag: "slots", bm25: "words", embed: "embed", vectors: "vectors", fuse: "fuse", rank: "rank" };
const TASK_NAMES = { classify: "what a query is about", tag: "what a query names", embed: "matching", rank: "ranking" };

const $ = (id) => document.getElementById(id);

// ---- Making elements ----------------------------------------------------------------------------------------------

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const h = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** Return an element whose width is a share of its parent's; styles are set in ways that the page's policy allows. */
function bar(share, start = 0, attributes = {}) {
  const made = h("i", attributes);
  made.style.width = `${100 * clamp(share)}%`;
  if (start) made.style.insetInlineStart = `${100 * clamp(start)}%`;
  return made;
}

const clamp = (value) => Math.min(1, Math.max(0, value));
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ms = (value) => (value == null ? "–" : number(value, value < 9.95 ? 1 : 0));
const times = (value) => (value == null ? "–" : `${number(value, value < 9.95 ? 1 : 0)}×`);
const percent = (value, digits = 0) => `${number(100 * value, digits)} %`;
const points = (value) => `${value < 0 ? "−" : "+"}${number(Math.abs(100 * value), 2)}`;
const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const median = (values) => quantile(values, 0.5);

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null;
}

/** Return a text as nodes, with `wrap` around each of some spans, (start, end) in code points. */
export function spanned(text, spans, wrap) {
  const letters = [...text];
  const nodes = [];
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < at) continue; // two models may name the same words
    nodes.push(letters.slice(at, span.start).join(""), wrap(letters.slice(span.start, span.end).join(""), span));
    at = span.end;
  }
  return [...nodes, letters.slice(at).join("")].filter((node) => node !== "");
}

const marked = (text, spans) => spanned(text, spans.map(([start, end]) => ({ start, end })), (part) => h("mark", {}, part));

// ---- Asking the service -------------------------------------------------------------------------------------------

class Trouble extends Error {
  constructor(message, status = 0, retryMs = 0) {
    super(message);
    this.status = status;
    this.retryMs = retryMs;
  }
}

const keys = {
  get: (name) => sessionStorage.getItem(`octavo-${name}-key`) ?? "",
  set: (name, value) => (value ? sessionStorage.setItem(`octavo-${name}-key`, value) : sessionStorage.removeItem(`octavo-${name}-key`)),
};

async function ask(path, { body, signal, base = "", key = keys.get("service"), method = body ? "POST" : "GET" } = {}) {
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  let response, content;
  try {
    response = await fetch(base + path, { method, headers, signal, body: body && JSON.stringify(body) });
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response) throw new Trouble(`The service answered ${response.status}, and nothing that can be read.`, response.status);
    throw new Trouble("The service does not answer.");
  }
  if (response.ok) return content;
  throw new Trouble(content?.error?.message ?? `The service answered ${response.status}.`, response.status, Number(response.headers.get("retry-after-ms")));
}

const search = (query, signal, more = {}) =>
  ask("/v1/search", { signal, body: { query, top: TOP, deadline_ms: DEADLINE_MS, ...more } });

const wait = (milliseconds, signal) =>
  new Promise((done, fail) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), fail(new DOMException("", "AbortError"))));
  });

// ---- The stack, and whether it is there ---------------------------------------------------------------------------

let stack = null; // the last answer of /v1/search/info
let missing = null; // the timer that asks whether the service is back

async function refresh() {
  stack = await ask("/v1/search/info");
  there();
  const { documents } = stack.index;
  $("stack").textContent = stack.ready ? plural(documents, "document") : `${plural(documents, "document")}, no model yet`;
  if (!stack.ready) setTimeout(() => refresh().then(shown.act, handle), 1000);
  return stack;
}

function there() {
  $("trouble").hidden = true;
  clearTimeout(missing);
  missing = null;
}

/** Show what went wrong, and do about it what can be done. */
function handle(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Trouble)) throw error;
  if (error.status === 401) {
    keys.set("service", "");
    $("service-key").hidden = false;
    $("service-key-value").focus();
    return;
  }
  $("trouble").textContent = error.status ? error.message : `${error.message} What is shown here may be old; it is asked again every two seconds.`;
  $("trouble").hidden = false;
  if (!error.status && missing == null) missing = setTimeout(comeBack, 2000);
}

async function comeBack() {
  missing = null;
  try {
    await refresh();
    shown.act();
  } catch (error) {
    handle(error);
  }
}

$("service-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  keys.set("service", $("service-key-value").value);
  $("service-key").hidden = true;
  await comeBack();
});

// ---- Tabs ---------------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
const views = {
  search: { enter: () => typed(), act: () => typed(), leave: () => searching?.abort() },
  compare: { enter: () => compare(), act: () => compare(), leave: () => comparing?.abort() },
  engines: { enter: enterEngines, act: drawModels, leave: leaveEngines },
  cost: { enter: drawCost, act: drawCost, leave: () => {} },
};
let shown = views.search;

function show(name, focus = false) {
  shown.leave();
  for (const tab of tabs) {
    const selected = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !selected;
    if (selected) {
      $("heading").textContent = tab.textContent;
      document.title = `Octavo: ${tab.textContent.toLowerCase()}`;
      if (focus) tab.focus();
    }
  }
  $("form").hidden = !["search", "compare"].includes(name);
  $("keys").hidden = name !== "search";
  shown = views[name];
  remember(name);
  shown.enter();
}

function remember(name) {
  const query = $("query").value;
  const asked = query && query.length < 500 && !$("form").hidden ? `?q=${encodeURIComponent(query)}` : "";
  history.replaceState(null, "", `#${name}${asked}`);
}

const current = () => Object.keys(views).find((name) => views[name] === shown);

for (const tab of tabs) tab.addEventListener("click", () => show(tab.id.slice(4)));
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const place = { Home: 0, End: tabs.length - 1 }[event.key] ?? (step && (tabs.indexOf(event.target) + step + tabs.length) % tabs.length);
  if (place === undefined) return;
  event.preventDefault();
  show(tabs[place].id.slice(4), true);
});

// ---- Keys ---------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    if ($("form").hidden) show("search");
    $("query").focus();
    $("query").select();
  }
});

$("query").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "ArrowDown") {
    const first = $("results").querySelector(".title");
    if (!first || shown !== views.search) return;
    event.preventDefault();
    first.focus();
  } else if (event.key === "Escape" && $("query").value) {
    event.preventDefault();
    $("query").value = "";
    soon(0);
  }
});

$("results").addEventListener("keydown", (event) => {
  const titles = [...$("results").querySelectorAll(".title")];
  const place = titles.indexOf(event.target);
  const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: titles.length - 1 }[event.key];
  if (event.key === "Escape") {
    event.preventDefault();
    if (event.target.getAttribute("aria-expanded") === "true") event.target.click();
    else $("query").focus();
  } else if (next !== undefined) {
    event.preventDefault();
    (next < 0 ? $("query") : titles[Math.min(next, titles.length - 1)]).focus();
  }
});

// ---- Search -------------------------------------------------------------------------------------------------------

let searching = null; // the search that is under way
let timer = null;

function soon(delay = TYPING_MS) {
  clearTimeout(timer);
  timer = setTimeout(() => (remember(current()), shown.act()), delay);
}

$("query").addEventListener("input", (event) => event.isComposing || soon());
$("query").addEventListener("compositionend", () => soon());
$("form").addEventListener("submit", (event) => (event.preventDefault(), soon(0)));

async function typed() {
  searching?.abort();
  const query = $("query").value.trim();
  if (!query) return drawNothing();
  const mine = (searching = new AbortController());
  $("results").classList.toggle("stale", $("results").dataset.answers !== query);
  try {
    const answer = await patiently(() => search(query, mine.signal), mine.signal);
    there();
    drawAnswer(answer);
    $("results").dataset.answers = query; // the query whose results are shown
  } catch (error) {
    if (error.name !== "AbortError") $("state").replaceChildren();
    handle(error);
  }
}

/** Ask again where the service is too busy, when it says that there should be room. */
async function patiently(act, signal) {
  for (let tries = 0; ; tries++) {
    try {
      return await act();
    } catch (error) {
      if (error.status !== 429 || tries === 5) throw error;
      $("state").replaceChildren(h("span", { class: "warn" }, "The service is busy; asking again."));
      await wait(Math.min(error.retryMs || 500, 2000), signal);
    }
  }
}

function drawNothing() {
  delete $("results").dataset.answers;
  $("results").replaceChildren();
  $("results").classList.remove("stale");
  $("state").replaceChildren();
  $("understood").hidden = $("times").hidden = true;
  if (!stack) return;
  if (!stack.index.documents) $("state").textContent = "The index is empty: there is nothing to find yet.";
  $("examples").hidden = !stack.examples.length;
  const few = stack.examples.slice(0, 6);
  $("example-list").replaceChildren(...few.map((text) => h("li", {}, h("button", { type: "button", dir: "auto", on: { click: () => takeExample(text) } }, text))));
}

function takeExample(text) {
  $("query").value = text;
  $("query").focus();
  soon(0);
}

function drawAnswer(answer) {
  $("examples").hidden = true;
  $("results").classList.remove("stale");
  $("state").replaceChildren(...stateOf(answer));
  $("results").replaceChildren(...answer.results.map(resultItem));
  drawUnderstanding(answer);
  drawTimes(answer);
}

function stateOf(answer) {
  const found = answer.results.length ? plural(answer.results.length, "result") : stack?.index.documents === 0 ? "The index is empty" : "Nothing found";
  const said = [`${found} in ${ms(answer.ms)} ms`];
  if (answer.rules.length) said.push(` · rules: ${answer.rules.join("; ")}`);
  if (answer.degraded) said.push(h("span", { class: "warn" }, ` · degraded: ${answer.problems.join("; ")}`));
  return said;
}

function resultItem(result, place) {
  const { bm25_rank: words, vector_rank: vectors, relevance } = result.scores;
  const text = h("p", { class: "text", dir: "auto" }, marked(result.snippet, result.snippet_spans));
  const title = h("button", { type: "button", class: "title", dir: "auto", "aria-expanded": "false" }, marked(result.title || result.id, result.title ? result.title_spans : []));
  title.addEventListener("click", () => open(result, title, text));
  const why = [
    result.title && result.title !== result.id && h("span", { dir: "auto" }, result.id),
    words && h("span", {}, `words ${words}`),
    vectors && h("span", {}, `vectors ${vectors}`),
    relevance != null && h("span", {}, `relevance ${number(relevance, 3)}`),
  ];
  return h("li", { value: place + 1 }, title, result.snippet && text, h("p", { class: "why" }, why));
}

/** Show a document whole, or again its snippet alone. */
async function open(result, title, text) {
  const opens = title.getAttribute("aria-expanded") !== "true";
  title.setAttribute("aria-expanded", String(opens));
  text.classList.toggle("whole", opens);
  if (!opens) return text.replaceChildren(...marked(result.snippet, result.snippet_spans));
  try {
    const { documents } = await ask("/v1/search/documents", { body: { ids: [result.id] } });
    if (title.getAttribute("aria-expanded") === "true" && documents.length) text.textContent = documents[0].text;
  } catch (error) {
    handle(error);
  }
}

function drawUnderstanding({ query, understanding: { intents, slots } }) {
  $("understood").hidden = !intents.length && !slots.length;
  const named = (part, slot) => h("span", { class: "slot" }, part, h("small", {}, slot.type));
  $("slots").replaceChildren(...(slots.length ? spanned(query, slots, named) : []));
  $("slots").hidden = !slots.length;
  $("intents").replaceChildren(
    ...[...intents].sort((a, b) => b.confidence - a.confidence).map(({ model, label, confidence }) =>
      h("li", {}, h("span", {}, label), h("span", { class: "share" }, percent(confidence)), h("span", { class: "meter" }, bar(confidence)), h("small", {}, model)),
    ),
  );
}

/** Return when each stage began and ended: which one waits for which is known, their lengths are told. */
export function timeline(stages) {
  const spans = stages.map((stage) => ({ ...stage, start: 0 }));
  const end = (names) => Math.max(0, ...spans.filter((one) => names.includes(one.name)).map((one) => one.start + one.ms));
  for (const one of spans) {
    if (one.name === "vectors") one.start = end(["embed"]);
    if (one.name === "fuse") one.start = end(["classify", "tag", "bm25", "embed", "vectors"]);
    if (one.name === "rank") one.start = end(["fuse"]);
  }
  return spans;
}

function drawTimes(answer) {
  const stages = timeline(answer.stages);
  const whole = Math.max(answer.ms, ...stages.map((one) => one.start + one.ms));
  const rows = stages.map((one) => {
    const who = one.model && `${one.model} ${one.version} · ${engineName(one.engine)}`;
    return h("li", { class: one.model ? "" : "plain", title: one.engine }, h("span", {}, STAGE_NAMES[one.name]), h("span", { class: "track" }, bar(one.ms / whole, one.start / whole)), h("span", { class: "ms" }, ms(one.ms)), one.problem ? h("small", { class: "problem" }, one.problem) : who && h("small", {}, one.note ? `${who} · ${one.note}` : who));
  });
  const leavesOut = stack?.ranked_documents === 0 && staged().some((one) => one.stage === "rank");
  if (leavesOut && !stages.some((one) => one.name === "rank")) {
    rows.push(h("li", {}, h("span", {}, STAGE_NAMES.rank), h("small", {}, "left out here: by octavo search tune, which found that it does not help, or by --rerank 0")));
  }
  $("timeline").replaceChildren(...rows, h("li", { class: "sum" }, h("span", {}, "in all, ms"), h("span", { class: "ms" }, ms(answer.ms))));
  $("times").hidden = false;
}

/** Return an engine's name without its version: `native-0.1.0/int8/amx` → `native int8`. */
const engineName = (id) => id.split("/").slice(0, 2).map((part) => part.replace(/-[\d.]+$/, "")).join(" ");

// ---- Compare ------------------------------------------------------------------------------------------------------

/** Return the share of two lists' members that both have. */
export function jaccard(a, b) {
  const all = new Set([...a, ...b]);
  return all.size ? a.filter((one) => b.includes(one)).length / all.size : 1;
}

/** Return rank-biased overlap (Webber, Moffat and Zobel 2010), extrapolated from lists of the same depth. */
export function rankBiasedOverlap(a, b, persistence = PERSISTENCE) {
  const depth = Math.max(a.length, b.length);
  if (!depth) return 1;
  let sum = 0;
  let overlap = 0;
  for (let d = 1; d <= depth; d++) {
    overlap = a.slice(0, d).filter((one) => b.slice(0, d).includes(one)).length;
    sum += (overlap / d) * persistence ** d;
  }
  return (overlap / depth) * persistence ** depth + ((1 - persistence) / persistence) * sum;
}

/** Return nDCG of a list at its depth, where `relevant` are all that are relevant, one as much as the other. */
export function ndcg(list, relevant, depth = TOP) {
  const gain = (place) => 1 / Math.log2(place + 2);
  const sum = (count, counts) => Array.from({ length: count }, (_, place) => (counts(place) ? gain(place) : 0)).reduce((a, b) => a + b, 0);
  const ideal = sum(Math.min(relevant.size, depth), () => true);
  return ideal ? sum(Math.min(list.length, depth), (place) => relevant.has(list[place])) / ideal : null;
}

let comparing = null;
let compared = null; // both answers, and the times so far
const judged = new Map(); // query → ids that somebody said are relevant

const staged = () => (stack?.models ?? []).filter((one) => one.stage);

function drawChoices() {
  const chosen = $("compare-stage").value;
  const models = staged().sort((a, b) => "rank embed classify tag".indexOf(a.stage) - "rank embed classify tag".indexOf(b.stage));
  $("compare-stage").replaceChildren(...models.map((one) => h("option", { value: one.model, selected: one.model === chosen }, `${STAGE_NAMES[one.stage]}: ${one.model}`)));
  drawVersions(false);
}

function drawVersions(anew) {
  const model = staged().find((one) => one.model === $("compare-stage").value);
  const versions = (model?.versions ?? []).filter((one) => one.certificate?.verdict === "pass" || one.is_loaded);
  const reference = versions.find((one) => one.version === model.version)?.reference ?? versions[0]?.version;
  for (const [id, preferred] of [["compare-a", reference], ["compare-b", model?.version]]) {
    const before = anew ? "" : $(id).value;
    const kept = versions.some((one) => one.version === before) ? before : preferred;
    $(id).replaceChildren(...versions.map((one) => h("option", { value: one.version, selected: one.version === kept }, `${one.version} · ${one.rung}${one.version === model.version ? " (serves)" : ""}`)));
  }
}

$("compare-stage").addEventListener("change", () => (drawVersions(true), compare()));
for (const id of ["compare-a", "compare-b"]) $(id).addEventListener("change", () => compare());

async function compare() {
  comparing?.abort();
  drawChoices();
  const query = $("query").value.trim();
  const model = $("compare-stage").value;
  if (!query || !model) {
    for (const id of ["compare-figures", "pair", "compare-times"]) $(id).hidden = true;
    $("compare-state").textContent = model ? "Type a query: both releases are asked." : "No model serves yet, so that there is nothing to compare.";
    return;
  }
  const mine = (comparing = new AbortController());
  const versions = [$("compare-a").value, $("compare-b").value];
  // Two rankers are compared by what they rank, also where searches leave ranking out.
  const ranked = staged().some((one) => one.model === model && one.stage === "rank") ? { rerank: 2 * TOP } : {};
  $("compare-state").textContent = "Asking both …";
  try {
    compared = { query, model, versions, answers: [], stages: [[], []] };
    for (let round = 0; round < COMPARED_TIMES; round++) {
      for (const side of [0, 1]) {
        const answer = await patiently(() => search(query, mine.signal, { ...ranked, beside: true, versions: { [model]: versions[side] } }), mine.signal);
        if (round) compared.stages[side].push(answer.stages);
        else compared.answers.push(answer);
      }
      there();
      if (!round) compared.stages = compared.answers.map((answer) => [answer.stages]);
      if (round === 1) compared.stages = compared.stages.map((runs) => runs.slice(1)); // the first one may have loaded a release, and warmed it up
      drawCompared();
      $("compare-state").replaceChildren(...problemsOf(compared.answers));
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    $("compare-state").replaceChildren(h("span", { class: "bad" }, error.message));
    if (!(error instanceof Trouble) || !error.status || error.status === 401) handle(error);
  }
}

function problemsOf(answers) {
  const problems = [...new Set(answers.flatMap((one) => one.problems))];
  return problems.length ? [h("span", { class: "warn" }, `degraded: ${problems.join("; ")}`)] : [];
}

function drawCompared() {
  const lists = compared.answers.map((answer) => answer.results.map((one) => one.id));
  drawFigures(lists);
  for (const [side, letter] of [[0, "a"], [1, "b"]]) {
    $(`title-${letter}`).textContent = sideName(side);
    $(`list-${letter}`).replaceChildren(...compared.answers[side].results.map((result, place) => comparedItem(result, place, lists[1 - side])));
  }
  $("pair").hidden = false;
  drawMoves(lists);
  drawStageBars();
}

const sideFacts = (side) =>
  staged().find((one) => one.model === compared.model)?.versions.find((one) => one.version === compared.versions[side]);

function sideName(side) {
  const facts = sideFacts(side);
  return `${compared.model} ${compared.versions[side]}${facts ? ` · ${facts.rung}` : ""}`;
}

function drawFigures([a, b]) {
  const relevant = judged.get(compared.query) ?? new Set();
  const moved = a.filter((id, place) => b[place] !== id).length + b.filter((id) => !a.includes(id)).length;
  const quality = [ndcg(a, relevant), ndcg(b, relevant)].map((one) => (one == null ? "–" : number(one, 2)));
  $("compare-figures").replaceChildren(
    figure(a.length ? number(jaccard(a, b), 2) : "–", `Jaccard of the first ${TOP}`),
    figure(a.length ? number(rankBiasedOverlap(a, b), 2) : "–", "rank-biased overlap"),
    figure(number(moved), "documents moved"),
    figure(relevant.size ? `${quality[0]} | ${quality[1]}` : "–", relevant.size ? "nDCG@10, left | right, by your marks" : "nDCG@10: mark what is relevant with ☆"),
  );
  $("compare-figures").hidden = false;
}

const figure = (value, name, accent = false) => h("div", {}, h("dt", {}, name), h("dd", { class: accent && "accent" }, value));

function comparedItem(result, place, others) {
  const relevant = judged.get(compared.query)?.has(result.id) ?? false;
  const name = result.title || result.id;
  const star = h("button", { type: "button", class: "judge", "aria-pressed": String(relevant), "aria-label": `${name} is relevant`, on: { click: () => judge(result.id) } }, relevant ? "★" : "☆");
  return h("li", { class: !others.includes(result.id) && "alone" }, h("span", { class: "place" }, place + 1), h("span", { class: "name", dir: "auto", title: result.snippet }, name), star);
}

function judge(id) {
  const relevant = judged.get(compared.query) ?? new Set();
  if (!relevant.delete(id)) relevant.add(id);
  judged.set(compared.query, relevant);
  const place = document.activeElement.closest("li");
  const path = place && [place.parentElement.id, [...place.parentElement.children].indexOf(place)];
  drawCompared();
  if (path) $(path[0]).children[path[1]]?.querySelector(".judge").focus();
}

/** Join the places of each document; one that only one side has ends in an open dot. */
function drawMoves([a, b]) {
  const drawing = $("moves");
  const top = drawing.getBoundingClientRect().top;
  const width = drawing.clientWidth;
  const heights = (id) => [...$(id).children].map((item) => item.getBoundingClientRect()).map((box) => box.top + box.height / 2 - top);
  const [left, right] = [heights("list-a"), heights("list-b")];
  const shapes = a.map((id, place) => {
    const there = b.indexOf(id);
    if (there < 0) return s("circle", { cx: 7, cy: left[place], r: 3.5 });
    const bend = width / 2;
    return s("path", { class: place !== there && "moved", d: `M4 ${left[place]}C${bend} ${left[place]} ${bend} ${right[there]} ${width - 4} ${right[there]}` });
  });
  const only = b.flatMap((id, place) => (a.includes(id) ? [] : [s("circle", { cx: width - 7, cy: right[place], r: 3.5 })]));
  drawing.replaceChildren(...shapes, ...only);
}

new ResizeObserver(() => {
  if (compared?.answers.length === 2 && !$("pair").hidden) drawMoves(compared.answers.map((answer) => answer.results.map((one) => one.id)));
}).observe($("pair"));

function drawStageBars() {
  const names = [...new Set(compared.answers.flatMap((answer) => answer.stages.map((one) => one.name)))];
  const typical = (side, name) => median(compared.stages[side].flatMap((run) => run.filter((one) => one.name === name).map((one) => one.ms)));
  const rows = names.map((name) => [name, typical(0, name), typical(1, name)]);
  const most = Math.max(...rows.flatMap(([, a, b]) => [a ?? 0, b ?? 0]));
  const one = (letter, value) => h("span", { class: `bar ${letter}` }, bar((0.82 * value) / most), ms(value));
  $("compare-bars").replaceChildren(...rows.map(([name, a, b]) => h("li", {}, h("span", {}, STAGE_NAMES[name]), h("span", { class: "both" }, one("a", a), one("b", b)))));
  const runs = Math.min(...compared.stages.map((side) => side.length));
  $("compare-times-note").textContent = `Milliseconds, ${sideName(0)} above, ${sideName(1)} below; ${runs > 1 ? `the median of ${runs} searches each, in turns` : "one search each"}. Both run on one thread, beside what serves.`;
  $("compare-times").hidden = false;
}

// ---- Engines ------------------------------------------------------------------------------------------------------

let status = null; // the last answer of /admin/status; null while locked
let polling = null;
const minutes = new Map(); // model → [{rate, p50, p99}], one a second, of the last minute

const admin = (path, body, method) =>
  ask(path, { base: `${location.protocol}//${location.hostname}:${stack.admin_port}`, key: keys.get("admin"), body, method });

function enterEngines() {
  $("admin-key").hidden = stack?.admin_port == null || Boolean(keys.get("admin"));
  $("unlocked").hidden = !keys.get("admin");
  poll();
  drawLive();
}

function leaveEngines() {
  clearTimeout(polling);
  polling = null;
}

async function poll() {
  clearTimeout(polling);
  try {
    await refresh();
    if (keys.get("admin")) await readStatus();
  } catch (error) {
    handle(error);
  }
  drawModels();
  if (shown === views.engines) polling = setTimeout(poll, 1000);
}

async function readStatus() {
  try {
    status = await admin("/admin/status");
    for (const one of status.models) {
      const traffic = Object.values(one.traffic).filter((version) => version.requests);
      const most = traffic.sort((a, b) => b.requests - a.requests)[0];
      const point = { rate: traffic.reduce((sum, version) => sum + version.requests_per_s, 0), p50: most?.p50_ms ?? null, p99: most?.p99_ms ?? null };
      minutes.set(one.model, [...(minutes.get(one.model) ?? []), point].slice(-LIVE_S));
    }
  } catch (error) {
    if (error.status === 401) lock("The key is not the one.");
    else $("engines-state").replaceChildren(h("span", { class: "bad" }, `The admin API on port ${stack.admin_port} does not answer here. ${error.message}`));
  }
}

$("admin-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  keys.set("admin", $("admin-key-value").value);
  $("admin-key-value").value = "";
  $("engines-state").replaceChildren();
  enterEngines();
});

$("lock").addEventListener("click", () => lock(""));

function lock(message) {
  keys.set("admin", "");
  status = null;
  minutes.clear();
  $("engines-state").replaceChildren(h("span", { class: "bad" }, message));
  $("admin-key").hidden = false;
  $("unlocked").hidden = true;
  drawModels();
}

/** Do something that changes what serves, and say how it went. */
async function change(model, act, body, done) {
  $("engines-state").textContent = `${model}: loading, verifying and warming up …`;
  try {
    const result = await admin(`/admin/models/${model}/${act}`, body ?? {}, "POST");
    $("engines-state").textContent = done(result);
  } catch (error) {
    $("engines-state").replaceChildren(h("span", { class: "bad" }, `${model}: ${error.message}`));
  }
  poll();
}

/** Return a button that acts when it is pressed twice: once to say what, once to say so. */
function button(text, act, sure = false) {
  const made = h("button", { type: "button" }, text);
  let back = null;
  made.addEventListener("click", () => {
    if (!sure || made.classList.contains("sure")) {
      clearTimeout(back);
      made.disabled = true;
      act();
      return;
    }
    made.classList.add("sure");
    made.textContent = `${text}: sure?`;
    back = setTimeout(() => (made.classList.remove("sure"), (made.textContent = text)), 3000);
  });
  return made;
}

let drawnModels = "";

function drawModels() {
  const models = stack?.models ?? [];
  noticeSwaps(models);
  // Drawn anew where something is new, so that focus and a button that was pressed once stay as they are.
  const facts = JSON.stringify([models.map((one) => [one.model, one.version, one.versions]), Boolean(status), status?.models.map((one) => one.trial), status?.failures]);
  if (facts !== drawnModels) {
    drawnModels = facts;
    $("models").replaceChildren(...models.map(modelPart));
    if (!models.length) $("models").replaceChildren(h("p", { class: "note" }, "No model serves."));
  }
  for (const one of models) drawTraffic(one.model);
}

function modelPart(one) {
  const { certificate } = one;
  const state = status?.models.find((other) => other.model === one.model);
  const failure = status?.failures[one.model];
  const trial = state?.trial;
  return h(
    "article",
    { class: "model", "aria-labelledby": `model-${one.model}` },
    h("div", { class: "head" }, h("h3", { id: `model-${one.model}` }, one.model), badge(certificate.verdict)),
    h("p", { class: "since" }, `${TASK_NAMES[one.task] ?? one.task} · version ${one.version} by ${engineName(one.engine)} since ${clock(one.since)}`),
    intervalDrawing(certificate),
    h("p", { class: "reason" }, certificate.reason),
    h("dl", { class: "figures" }, figure(times(certificate.speedup.torch_fp32), "as fast as PyTorch FP32", true), figure(times(certificate.speedup.openvino_fp32), "as fast as OpenVINO FP32", true), figure(`${number(certificate.latency_ms.batch1_p50, 1)} ms`, `a ${certificate.item}, p50`), figure(percent(certificate.agreement, 1), "same as the teacher")),
    status && h("div", { class: "traffic", id: `traffic-${one.model}` }),
    trial && trialPart(one.model, trial),
    failure && h("p", { class: "state" }, h("span", { class: "bad" }, failure)),
    h("ul", { class: "versions" }, [...one.versions].reverse().map((version) => versionItem(one, version, trial))),
    status && h("p", { class: "back" }, button("Roll back", () => change(one.model, "rollback", {}, swapped), true)),
  );
}

const clock = (iso) => new Date(iso).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false });
const badge = (verdict) => h("span", { class: `badge ${verdict}` }, verdict);
const swapped = (result) => `${result.model}: ${result.old} → ${result.new} in ${number(result.seconds, 1)} s`;

function versionItem(one, version, trial) {
  const serves = version.version === one.version;
  const { certificate } = version;
  const told = version.note ?? `${version.rung}, ${number(certificate.latency_ms.batch1_p50, 1)} ms`;
  const report = stack.has_reports && version.has_report && h("a", { href: `/reports/${one.model}/${version.version}`, target: "_blank", rel: "noopener", "aria-label": `Report of ${one.model} ${version.version}` }, "report");
  const busy = trial?.outcome === "running";
  const acts = status && !serves && !version.note && h("span", { class: "acts" }, button("Promote", () => change(one.model, "promote", { version: version.version }, swapped), true), !busy && button("Canary 10 %", () => tryOut(one.model, "canary", version.version)), !busy && button("Shadow", () => tryOut(one.model, "shadow", version.version)));
  return h("li", {}, h("span", { class: "number" }, version.version), h("span", {}, h("small", {}, told), serves && h("span", { class: "serves" }, " serves")), certificate ? badge(certificate.verdict) : badge("unread"), report || h("span"), acts);
}

const tryOut = (model, mode, version) =>
  change(model, mode, { version, percent: mode === "canary" ? 10 : 100 }, () => `${model} ${version}: ${mode} began`);

function trialPart(model, trial) {
  const running = trial.outcome === "running";
  const found = trial.requests ? `: ${plural(trial.requests, "request")}, agreement ${trial.agreement == null ? "–" : percent(trial.agreement, 1)}, drift ${trial.drift == null ? "–" : number(trial.drift, 4)}, p99 ${ms(trial.new_p99_ms)} ms against ${ms(trial.old_p99_ms)} ms` : ": no request yet";
  const said = `${trial.mode} of ${trial.version} at ${number(trial.percent)} %, ${trial.outcome}${found}. ${trial.reasons.join(" ")} ${trial.note}`;
  return h("div", { class: "trial" }, h("p", {}, said), running && h("p", {}, button("Stop the trial", () => change(model, "abort-trial", {}, () => `${model}: the trial is over`))));
}

/** Draw the engine's difference from its teacher: the interval, zero, and the margin that it has to stay above. */
function intervalDrawing({ difference, margin, metric }) {
  const least = Math.min(-1.35 * margin, difference.low), most = Math.max(margin, 1.1 * difference.high);
  const x = (value) => `${(100 * (value - least)) / (most - least)}%`;
  const line = (value, name) => s("line", { class: name, x1: x(value), x2: x(value), y1: 4, y2: 34 });
  const label = (value, text, anchor) => s("text", { x: x(value), y: 50, "text-anchor": anchor }, text);
  return s(
    "svg",
    { class: "interval", role: "img", "aria-label": `${metric}: ${points(difference.value)} points from the teacher, 95% interval ${points(difference.low)} to ${points(difference.high)}, margin ${points(-margin)}` },
    line(-margin, "margin"), line(0, "zero"),
    s("line", { class: "span", x1: x(difference.low), x2: x(difference.high), y1: 19, y2: 19 }),
    s("circle", { cx: x(difference.value), cy: 19, r: 5 }),
    label(-margin, `margin ${points(-margin)}`, "middle"), label(0, `the teacher's ${metric}`, "middle"),
  );
}

function drawTraffic(model) {
  const place = $(`traffic-${model}`);
  const past = minutes.get(model) ?? [];
  if (!place || !past.length) return;
  const last = past.at(-1);
  place.replaceChildren(
    h("div", {}, spark([past.map((one) => one.rate)]), `${number(last.rate, 1)} requests a second`),
    h("div", {}, spark([past.map((one) => one.p99), past.map((one) => one.p50)]), last.p50 == null ? "no request in the last minute" : `p50 ${ms(last.p50)} ms, p99 ${ms(last.p99)} ms`),
  );
}

function spark(lines) {
  const most = Math.max(1e-9, ...lines.flat().map((value) => value ?? 0));
  const path = (values) => values.map((value, place) => `${place ? "L" : "M"}${(100 * (LIVE_S - values.length + place)) / (LIVE_S - 1)} ${30 - (28 * (value ?? 0)) / most}`).join("");
  return s("svg", { viewBox: "0 0 100 32", preserveAspectRatio: "none", "aria-hidden": "true" }, lines.map((values, place) => s("path", { class: place && "p50", d: path(values), "vector-effect": "non-scaling-stroke" })));
}

// Live: the page's own searches.

const live = { running: false, dots: [], swaps: [], serving: new Map(), drawing: null, sent: 0 };

$("live-toggle").addEventListener("click", () => {
  live.running = !live.running;
  $("live-toggle").setAttribute("aria-pressed", String(live.running));
  $("live-toggle").textContent = live.running ? "Stop" : "Start";
  if (live.running) sendOn();
  drawLive();
});

/** Send searches at the chosen rate, whether or not the last one was answered: a slow service must not slow its load. */
async function sendOn() {
  while (live.running) {
    sendOne();
    await wait(1000 / Number($("rate").value));
  }
}

async function sendOne() {
  const texts = stack?.examples.length ? stack.examples : ["search"];
  const started = performance.now();
  const dot = { ms: 0, other: false, problem: "", lost: false };
  try {
    const answer = await search(texts[live.sent++ % texts.length], undefined, { top: 5, deadline_ms: null });
    dot.other = isOther(answer);
    dot.problem = answer.problems.join("; ");
  } catch (error) {
    dot.lost = true;
    dot.problem = error.message;
  }
  live.dots.push({ ...dot, at: performance.now(), ms: performance.now() - started });
}

/** Return whether a release on trial had part in an answer; notes a swap where a version is new. */
function isOther(answer) {
  let other = false;
  for (const { model, version } of answer.stages) {
    const before = live.serving.get(model);
    if (!model || before === version) continue;
    const trial = stack?.models.find((one) => one.model === model)?.versions.find((one) => one.version === version)?.is_loaded;
    if (before && trial) other = true;
    else noteSwap(model, version);
  }
  return other;
}

function noticeSwaps(models) {
  for (const one of models) if (live.serving.get(one.model) !== one.version) noteSwap(one.model, one.version);
}

function noteSwap(model, version) {
  const before = live.serving.get(model);
  live.serving.set(model, version);
  if (before && live.dots.length) live.swaps.push({ at: performance.now(), text: `${model} ${before} → ${version}` });
}

function drawLive() {
  clearTimeout(live.drawing);
  const now = performance.now();
  const first = now - 1000 * LIVE_S;
  live.dots = live.dots.filter((dot) => dot.at > first);
  live.swaps = live.swaps.filter((swap) => swap.at > first);
  $("live-chart").replaceChildren(...liveShapes(now));
  $("live-state").textContent = liveSummary();
  if (shown === views.engines && (live.running || live.dots.length)) live.drawing = setTimeout(drawLive, 250);
}

function liveShapes(now) {
  const { clientWidth: width, clientHeight: height } = $("live-chart");
  const [left, bottom] = [36, height - 22];
  const most = niceAbove(Math.max(10, ...live.dots.filter((dot) => !dot.lost).map((dot) => dot.ms)));
  const x = (at) => left + (width - left) * (1 - (now - at) / (1000 * LIVE_S));
  const y = (value) => bottom - (bottom - 14) * (value / most);
  const level = (value) => [s("line", { class: value ? "grid" : "axis", x1: left, x2: width, y1: y(value), y2: y(value) }), s("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value))];
  const lost = (one) => s("line", { class: "lost", x1: x(one.at), x2: x(one.at), y1: bottom - 12, y2: bottom });
  const dot = (one) => s("circle", { class: one.problem ? "degraded" : one.other && "other", cx: x(one.at), cy: y(one.ms), r: 3 });
  const swap = (one) => [s("line", { class: "swap", x1: x(one.at), x2: x(one.at), y1: 14, y2: bottom }), s("text", { class: "swap-name", x: x(one.at) - 6, y: 10, "text-anchor": x(one.at) > 180 ? "end" : "start" }, one.text)];
  return [
    ...[0, most / 2, most].flatMap(level),
    s("text", { x: left, y: height - 4 }, "a minute ago"), s("text", { x: width, y: height - 4, "text-anchor": "end" }, "now"),
    s("text", { x: 0, y: 4 }, live.swaps.length ? "" : "ms"),
    ...live.dots.map((one) => (one.lost ? lost(one) : dot(one))), ...live.swaps.flatMap(swap),
  ];
}

/** Return the least of 1, 2, 5, 10, 20, … that is no less than a value. */
export function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

function liveSummary() {
  if (!live.dots.length) return live.running ? "" : "Nothing was sent in the last minute.";
  const good = live.dots.filter((dot) => !dot.lost);
  const lasted = good.map((dot) => dot.ms);
  const troubled = live.dots.filter((dot) => dot.problem).at(-1);
  const said = [
    `Last minute: ${number(good.length)} answered, ${number(live.dots.length - good.length)} lost`,
    `${number(good.filter((dot) => dot.problem).length)} degraded`,
    `p50 ${ms(quantile(lasted, 0.5))} ms, p99 ${ms(quantile(lasted, 0.99))} ms`,
    `${number(good.filter((dot) => dot.other).length)} by a release on trial (open dots)`,
  ];
  return `${said.join("; ")}.${troubled ? ` The last trouble: ${troubled.problem}` : ""}`;
}

// ---- Cost ---------------------------------------------------------------------------------------------------------

const read = (id) => Number($(id).value.replaceAll(/[\s,_]/g, ""));

/** Return what each model costs: cores that are kept busy, and money a day; `engine` is what serves, `fp32` the baseline. */
export function costs(models, { queries, price, busy, pairs, baseline }) {
  return models.flatMap((one) => {
    const { certificate } = one;
    const speedup = certificate.speedup[baseline];
    if (!speedup) return [];
    const asked = one.task === "rank" ? pairs : 1;
    const coreMs = certificate.latency_ms.per_query_batch32 * certificate.logical_cores * asked;
    const cores = (ms) => (queries * ms) / 1000 / 86400 / busy;
    const [engine, fp32] = [cores(coreMs), cores(coreMs * speedup)];
    return [{ model: one.model, asked, engine, fp32, saved: 1 - 1 / speedup, engineDay: engine * 24 * price, fp32Day: fp32 * 24 * price }];
  });
}

function drawCost() {
  // As many as are ranked here, until somebody says otherwise.
  if (stack && !$("pairs").dataset.typed) $("pairs").value = stack.ranked_documents;
  const asked = { queries: read("queries"), price: read("price"), busy: read("busy") / 100, pairs: read("pairs"), baseline: $("baseline").value };
  const fits = asked.queries > 0 && asked.price >= 0 && asked.busy > 0 && asked.busy <= 1 && asked.pairs >= 0;
  $("cost-state").replaceChildren(...(fits ? [] : [h("span", { class: "bad" }, "These numbers mean no traffic: give queries above 0, and a share from 1 to 100 %.")]));
  const rows = fits ? costs(staged(), asked) : [];
  $("cost-figures").hidden = $("cost-scroll").hidden = !rows.length;
  if (!rows.length) return ($("cost-note").textContent = fits ? "No model serves whose certificate has a measured speed-up." : "");
  const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
  const total = { model: "in all", engine: sum("engine"), fp32: sum("fp32"), engineDay: sum("engineDay"), fp32Day: sum("fp32Day") };
  total.saved = 1 - total.engine / total.fp32;
  $("cost-figures").replaceChildren(
    figure(percent(total.saved), "of the compute saved", true),
    figure([amount(total.fp32), h("small", {}, " → "), amount(total.engine)], "cores, FP32 → what serves"),
    figure(amount(365 * (total.fp32Day - total.engineDay)), "saved a year"),
  );
  drawCostTable(rows, total);
  const { certificate } = staged()[0];
  $("cost-note").textContent = `From the certificates: milliseconds a query in batches of 32 on ${certificate.logical_cores} cores (${certificate.cpu}), and the speed-up over FP32 that was measured beside it, in turns. Money is in the unit of the price; peaks are what the share of busy time is for.`;
}

const amount = (value) => number(value, value < 9.95 ? 1 : 0);

function drawCostTable(rows, total) {
  const most = Math.max(...rows.map((row) => row.fp32));
  const columns = { model: "", "FP32, cores": "", "serves, cores": "", "FP32 a day": "more", "serves a day": "more", saved: "" };
  const head = Object.entries(columns).map(([text, kind]) => h("th", { scope: "col", class: kind }, text));
  head.push(h("th", { scope: "col", class: "more" }, h("span", { class: "unseen" }, "cores, side by side")));
  const cell = (value, kind) => h("td", { class: kind }, amount(value));
  const cells = (row) => [cell(row.fp32), cell(row.engine), cell(row.fp32Day, "more"), cell(row.engineDay, "more")];
  const both = (row) => h("td", { class: "bar more" }, barBlock(row.fp32 / most), barBlock(row.engine / most));
  const name = (row) => h("th", { scope: "row" }, row.asked === 1 ? row.model : `${row.model} × ${row.asked}`);
  $("cost-table").replaceChildren(
    h("thead", {}, h("tr", {}, head)),
    h("tbody", {}, rows.map((row) => h("tr", {}, name(row), cells(row), h("td", {}, percent(row.saved)), both(row)))),
    h("tfoot", {}, h("tr", {}, name(total), cells(total), h("td", {}, percent(total.saved)), h("td", { class: "more" }))),
  );
}

function barBlock(share) {
  const made = h("div");
  made.style.width = `${100 * clamp(share)}%`;
  return made;
}

$("pairs").addEventListener("input", () => ($("pairs").dataset.typed = "yes"));
$("cost-form").addEventListener("input", drawCost);
$("cost-form").addEventListener("submit", (event) => event.preventDefault());

// ---- Start --------------------------------------------------------------------------------------------------------

/** Show what the address says: a view, and a query. */
function followAddress() {
  const [, name, asked] = /^#?(\w*)(?:\?q=(.*))?$/.exec(location.hash) ?? [];
  try {
    if (asked) $("query").value = decodeURIComponent(asked);
  } catch {
    // An address that somebody cut.
  }
  show(Object.hasOwn(views, name ?? "") ? name : "search");
}

window.addEventListener("hashchange", followAddress);
await refresh().catch(handle);
followAddress();
if (shown === views.search) $("query").focus();


/* The review. A decision is sent as soon as it is made, one after another; once it is kept, the page of the next row takes
   the place of this one, so that no key falls between two pages.
   1. A key decides on what is shown. The next field of a row is active at once, before the server has the one before.
   2. Until the next row is shown, a key that decides decides nothing, and the page says so. Others wait for it. */
const review = () => document.getElementById("review");
const fieldset = field => [...review().querySelectorAll("fieldset")].find(one => one.dataset.field === field);
const chosen = () => document.activeElement?.closest?.("fieldset[data-field]");
const active = () => chosen() || review().querySelector("[data-active]") || review().querySelector("fieldset");
const PARTS_OF_REVIEW = ["queue", "drawn", "review", "row"];
const drafts = new Map(); // by row: what is written and not sent
const steps = []; // what is still to be done; the first one is under way
const IN_VAIN_MS = 6000;
let shown = location.pathname, last = null, isLeft = false, early = "", typed = null, inVain = [];

async function step(work, isDecision = false) {
  steps.push({ work, isDecision });
  if (steps.length > 1) return;
  while (steps.length) {
    await steps[0].work();
    steps.shift();
  }
  if (!early) return;
  const row = document.querySelector("h1").textContent;
  inVain.push({ words: `${early} was pressed before ${row} was shown, and decided nothing.`, at: performance.now() });
  document.getElementById("said").textContent = saidInVain();
  early = "";
}

/* What was pressed too early is said for some seconds, also where the next rows are shown meanwhile. */
function saidInVain() {
  inVain = inVain.filter(one => performance.now() - one.at < IN_VAIN_MS);
  return inVain.map(one => one.words).join(" ");
}

/* Decide on a field, or on all that is open (`field` null), of the row that is shown. */
function decide(change, field, key) {
  if (isLeft) { early = key; return; }
  const said = document.getElementById("said"), path = shown, { seen } = review().dataset, open = review().querySelector("[data-open]");
  if (field) last = { path, field: field.dataset.field };
  else if (open) last = { path, field: open.dataset.field };
  if (change.action !== "note") (field ? [field] : review().querySelectorAll("[data-open]")).forEach(one => one.removeAttribute("data-open"));
  review().querySelector("[data-active]")?.removeAttribute("data-active");
  const next = review().querySelector("[data-open]");
  next?.setAttribute("data-active", "");
  if (chosen()) (next || document.querySelector("h1")).focus({ preventScroll: true });
  isLeft = !next;
  step(async () => {
    const told = await send(path, { ...change, seen, ...(field && { field: field.dataset.field }) }, said, "This decision is not kept");
    steps[0].isDecision = false;
    if (told) { await show(told.next); return; }
    steps.length = 1; // what was pressed after it, for this row, counted on it
    review().querySelectorAll("[data-sent]").forEach(input => { delete input.dataset.sent; });
    await show(path, said.textContent);
    if (field) goBack(field.dataset.field, change);
  }, true);
}

/* Where a decision on a field was refused, the person is there again: in its field of text, if that was sent. */
function goBack(name, change) {
  const isElsewhere = document.activeElement?.tagName === "INPUT", key = change.action === "edit" ? "e" : "n";
  if (isElsewhere) return;
  if (change.text !== undefined) fieldset(name)?.querySelector(`[data-key=${key}]`).focus();
  else if (chosen()) fieldset(name)?.focus({ preventScroll: true });
}

/* What decides nothing, and is done on the row that is shown then. */
function move(work) {
  isLeft = true;
  step(async () => { await work(); isLeft = steps.length > 1; });
}

async function ask(action) {
  const told = await send(shown, { action }, document.getElementById("said"), "Nothing was changed");
  last = null;
  if (told) await show(told.next);
}

async function followLink(rel) {
  last = null;
  const link = document.querySelector(`#queue [rel=${rel}]`);
  if (link) await show(link.pathname);
}

/* Show a row of the queue, unless decisions on this one are still to be sent. */
async function show(path, words = "", isBack = false) {
  let answer, text;
  try {
    answer = await fetch(path);
    text = await answer.text();
  } catch (error) {
    document.getElementById("said").textContent = words || isGone();
    isLeft = false;
    return;
  }
  if (steps[1]?.isDecision) return;
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (!answer.ok || !fresh.getElementById("review")) { location.assign(path); return; }
  const isSame = path === shown, written = unsent(), kept = isSame ? written : drafts.get(path) || [], field = chosen()?.dataset.field;
  for (const id of PARTS_OF_REVIEW) document.getElementById(id).replaceWith(document.adoptNode(fresh.getElementById(id)));
  document.getElementById("count").replaceChildren(...fresh.getElementById("count").childNodes); // is read out
  document.title = fresh.title;
  if (isSame) restore(kept, field);
  else {
    const left = keep(written.filter(one => one.text));
    words ||= left;
    drafts.delete(path);
    restore(kept);
    document.querySelector("h1").replaceChildren(...fresh.querySelector("h1").childNodes);
    if (!isBack) history.pushState(null, "", path);
    shown = path;
    scrollTo(0, 0);
    document.querySelector("h1").focus({ preventScroll: true });
  }
  document.getElementById("said").textContent = words || saidInVain();
  isLeft = steps.length > 1;
}

/* What is written and not sent, with the place of the cursor. */
const unsent = () => [...review().querySelectorAll("input")]
  .filter(input => (input.value || input === document.activeElement) && !("sent" in input.dataset))
  .map(input => ({ field: input.closest("fieldset").dataset.field, key: input.dataset.key, text: input.value, isHere: input === document.activeElement }));

/* What is written on a row that is left stays for when it is shown again; says so. */
function keep(written) {
  if (!written.length) return "";
  const parts = written.map(one => `${one.key === "n" ? "note" : "edit"} on ${one.field}`).join(", ");
  drafts.set(shown, written.map(one => ({ ...one, isHere: false })));
  return `Not saved: the ${parts} of ${document.querySelector("h1").textContent}. It is still there when you go back to that row.`;
}

function restore(kept, field) {
  if (field !== undefined) fieldset(field).focus({ preventScroll: true });
  for (const one of kept) {
    const input = fieldset(one.field).querySelector(`[data-key=${one.key}]`);
    input.value = one.text;
    if (one.isHere) input.focus();
  }
}

/* Write into a field of text: at once where it is shown, else once its row is; what is typed until then is put into it. */
function write(isShown, find) {
  if (isShown && !isLeft) { find(); return; }
  typed = { text: "", isSent: false };
  move(async () => {
    const input = await find(), { text, isSent } = typed;
    typed = null;
    if (!input) return;
    input.value += text;
    if (isSent) setTimeout(() => input.form.requestSubmit());
  });
}

/* A key that is pressed before the field of text is there. */
function hold(key) {
  if (typed.isSent) early = key;
  else if (key === "Enter") typed.isSent = true;
  else if (key === "Backspace") typed.text = typed.text.slice(0, -1);
  else if (key.length === 1) typed.text += key;
}

function edit() {
  const input = active().querySelector("[data-key=e]");
  input.focus();
  return input;
}

/* The note is on the field in which the person is, else on that which was decided last, even where its row is left. */
function noted() {
  const { lastPlace, lastField } = review().dataset;
  if (chosen()) return { path: shown, field: chosen().dataset.field };
  return last || (lastField === undefined ? null : { path: `/review/${lastPlace}`, field: lastField });
}

async function note() {
  const of = noted();
  if (of === null) {
    document.getElementById("said").textContent = "Decide first; n then writes a note on the decision.";
    return null;
  }
  if (of.path !== shown) await show(of.path);
  const input = fieldset(of.field).querySelector("[data-key=n]");
  input.focus();
  return input;
}

if (review()) {
  const press = (find, key) => {
    if (isLeft) early = key;
    else find()?.click();
  };
  Object.assign(keys, {
    j: event => (event.repeat && steps.length) || move(() => followLink("next")),
    k: event => (event.repeat && steps.length) || move(() => followLink("prev")),
    e: () => write(true, edit),
    n: () => write((noted()?.path ?? shown) === shown, note),
    x: () => press(() => active().querySelector("[data-action=wrong]"), "x"),
    u: () => move(() => ask("undo")),
    s: () => move(() => ask("skip")),
    Enter: () => decide({ action: "accept" }, null, "Enter"),
  });
  for (let key = 1; key < 10; key++) keys[key] = () => press(() => active().querySelector(`button[data-key="${key}"]`), String(key));
  document.addEventListener("click", event => {
    const link = event.target.closest("#queue [rel]");
    if (link) {
      event.preventDefault();
      move(() => followLink(link.rel));
    }
    const button = event.target.closest("#review button");
    if (!button || button.form) return;
    const { action, value } = button.dataset, field = button.closest("fieldset");
    if (action === "undo" || action === "skip") move(() => ask(action));
    else decide(value === undefined ? { action } : { action: "set", value: JSON.parse(value) }, field, button.textContent.trim());
  });
  document.addEventListener("submit", event => {
    if (!event.target.closest("#review")) return;
    event.preventDefault();
    const input = event.target.elements.text;
    input.dataset.sent = "";
    decide({ action: event.target.dataset.action, text: input.value }, event.target.closest("fieldset"), "Enter");
  });
  document.addEventListener("keydown", event => {
    if (event.repeat && event.key === "Enter" && event.target.closest("#review button")) event.preventDefault();
    if (typed === null || event.ctrlKey || event.altKey || event.metaKey) return;
    hold(event.key);
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
  addEventListener("beforeunload", event => { if (steps.some(one => one.isDecision) || drafts.size || unsent().some(one => one.text)) event.preventDefault(); });
  addEventListener("popstate", () => { last = null; move(() => show(location.pathname, "", true)); });
}

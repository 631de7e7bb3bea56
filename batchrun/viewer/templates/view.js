/* The viewer's one script: keys, and following a file that grows. All that is shown comes from the server as a page;
   parts of it are put in place of older ones, and no text is ever read as HTML of this page. */
"use strict";

const FOLLOW_MS = 1000;
const PARTS = ["found", "reading", "table", "damaged", "facets", "pages", "run-state", "run-pause", "run-limits"];
let here = -1;

const rows = () => [...document.querySelectorAll("#rows tbody tr[id]")];

function go(step) {
  const all = rows();
  if (!all.length) {
    const link = document.querySelector(step > 0 ? "[rel=next]" : "[rel=prev]");
    if (link) location.assign(link.href);
    return;
  }
  here = Math.max(0, Math.min(all.length - 1, here + step));
  all.forEach((row, place) => row.classList.toggle("here", place === here));
  all[here].querySelector("a").focus();
}

const keys = {
  j: () => go(1),
  k: () => go(-1),
  "/": () => document.getElementById("q")?.focus(),
  b: () => document.getElementById("back")?.click(),
};

document.addEventListener("keydown", event => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]") ||
    (event.key === "Enter" && event.target.closest("a, button, summary"));
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  if (event.repeat && review && !"jk".includes(event.key)) return; // a key that is held decides once
  keys[event.key]();
});

/* The review: each decision is sent, and the page of the next row is opened once it is kept. */
const review = document.getElementById("review");
const active = () => document.activeElement?.closest?.("fieldset[data-field]") || review.querySelector("[data-active]") || review.querySelector("fieldset");

/* Sends a change; what the server tells, or null where it was not made, which `said` then says. */
async function send(path, change, said, lost) {
  said.textContent = "";
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-Batchrun-Token": document.querySelector("meta[name=batchrun-token]").content,
      },
      body: JSON.stringify(change),
    });
    const told = await answer.json();
    if (answer.ok) return told;
    said.textContent = told.message;
  } catch (error) {
    said.textContent = `The server does not answer; ${lost}. Start batchrun view again.`;
  }
  return null;
}

async function decide(change) {
  const told = await send(location.pathname, change, document.getElementById("said"), "this decision is not kept");
  if (told) location.assign(told.next);
}

const fieldOf = element => element.closest("fieldset[data-field]")?.dataset.field;
if (review) {
  Object.assign(keys, {
    j: () => document.querySelector("[rel=next]")?.click(),
    k: () => document.querySelector("[rel=prev]")?.click(),
    e: () => active()?.querySelector("[data-key=e]").focus(),
    n: () => active()?.querySelector("[data-key=n]").focus(),
    x: () => active()?.querySelector("[data-action=wrong]").click(),
    u: () => decide({ action: "undo" }),
    s: () => decide({ action: "skip" }),
    Enter: () => decide({ action: "accept" }),
  });
  for (let key = 1; key < 10; key++) keys[key] = () => active()?.querySelector(`button[data-key="${key}"]`)?.click();
  review.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button || button.form) return;
    if (button.dataset.value !== undefined) decide({ action: "set", field: fieldOf(button), value: JSON.parse(button.dataset.value) });
    else decide({ action: button.dataset.action, field: fieldOf(button) });
  });
  review.addEventListener("submit", event => {
    event.preventDefault();
    decide({ action: event.target.dataset.action, field: fieldOf(event.target), text: event.target.elements.text.value });
  });
}

/* A long text: each next piece is put behind those that are there, as text. */
document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-part]");
  if (!button) return;
  button.disabled = true;
  const query = new URLSearchParams({ part: button.dataset.part, from: button.dataset.from });
  try {
    const answer = await fetch(`/rows/${button.dataset.row}/text.json?${query}`);
    const told = await answer.json();
    const text = button.closest(".long").firstElementChild;
    text.append(document.createTextNode(told.text));
    button.dataset.from = told.next;
    button.nextElementSibling.textContent = told.next === null ? "" : `${told.left.toLocaleString("en")} more characters`;
    button.hidden = told.next === null;
  } catch (error) {
    button.nextElementSibling.textContent = "The server does not answer.";
  }
  button.disabled = false;
});

/* Two files: the row with its differences, or with both texts; in the table, the next row that differs. */
const bothTexts = document.getElementById("both-texts");
keys.d = () => {
  if (bothTexts) { bothTexts.click(); return; }
  const all = rows(), next = all.findIndex((row, place) => place > here && row.dataset.differs !== undefined);
  if (next >= 0) go(next - here);
};
bothTexts?.addEventListener("click", () => {
  const isOn = bothTexts.getAttribute("aria-pressed") === "true";
  bothTexts.setAttribute("aria-pressed", String(!isOn));
  document.querySelectorAll("#comparison .diff").forEach(one => { one.hidden = !isOn; });
  document.querySelectorAll("#comparison .both").forEach(one => { one.hidden = isOn; });
});

document.addEventListener("keydown", event => {
  if (event.key === "Escape") document.activeElement?.blur();
});

document.querySelector("form[role=search]")?.addEventListener("submit", event => {
  for (const input of event.target.querySelectorAll("input")) input.disabled = !input.value; // not in the address
});
addEventListener("pageshow", () => document.querySelectorAll("input:disabled").forEach(input => { input.disabled = false; }));

document.addEventListener("focusin", event => {
  const row = event.target.closest("#rows tbody tr[id]");
  if (row) here = rows().indexOf(row);
});

/* Take over the rows of a newer page: those that are there already stay as they are, so focus and place are kept. What
   is above them does not become lower: at the top of the page there is nothing to scroll back to. */
const header = document.querySelector("header");
addEventListener("resize", () => { if (header) header.style.minHeight = ""; });
const generationOf = table => JSON.parse(table.dataset.state || "{}").generation;
function takeOver(fresh) {
  header.style.minHeight = `${header.getBoundingClientRect().height}px`;
  const body = document.querySelector("#rows tbody");
  const table = document.getElementById("rows"), newer = fresh.getElementById("rows");
  const isSameFile = generationOf(table) === generationOf(newer); // of another file, no row is known
  const known = new Map(isSameFile ? rows().map(row => [row.id, row]) : []);
  const wanted = [...fresh.querySelectorAll("#rows tbody tr")];
  const focused = document.activeElement?.closest?.("#rows tbody tr[id]");
  const before = focused?.getBoundingClientRect().top;
  const next = wanted.map(row => known.get(row.id) || document.adoptNode(row));
  next.forEach((row, place) => { if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null); });
  while (body.children.length > next.length) body.lastElementChild.remove();
  for (const id of PARTS) {
    const old = document.getElementById(id), now = fresh.getElementById(id);
    const isHeld = old?.contains(document.activeElement), isOpen = id === "run-limits" && old?.querySelector("details[open]");
    if (old && !now) old.remove();
    else if (old && (!isHeld || id === "run-pause") && !(isOpen && now.firstElementChild)) {
      old.replaceWith(document.adoptNode(now));
      if (isHeld) now.querySelector("button")?.focus();
    }
  }
  if (focused?.isConnected) window.scrollBy(0, focused.getBoundingClientRect().top - before);
  here = focused ? rows().indexOf(focused) : here;
  table.dataset.state = newer.dataset.state;
}

async function refresh() {
  const page = await fetch(location.href);
  if (page.ok) takeOver(new DOMParser().parseFromString(await page.text(), "text/html"));
}

/* The run that writes the file: paused, resumed, given other limits. */
const run = document.getElementById("run");
async function tune(change) {
  if (await send("/run", change, document.getElementById("run-said"), "nothing was changed")) await refresh();
}
if (run) {
  keys.p = () => document.querySelector("#run-pause button")?.click();
  run.addEventListener("click", event => {
    const button = event.target.closest("button[data-paused]");
    if (button) tune({ paused: button.dataset.paused === "true" });
  });
  run.addEventListener("submit", event => {
    event.preventDefault();
    const changed = [...event.target.querySelectorAll("input")].filter(input => input.value !== input.defaultValue);
    document.activeElement?.blur();
    if (changed.length) tune(Object.fromEntries(changed.map(input => [input.name, input.value.trim() || "off"])));
    changed.forEach(input => { input.defaultValue = input.value; });
  });
}

/* The page is older than the index, or what the run tells has changed. */
let runSeen;
async function follow() {
  try {
    const { run, ...state } = await (await fetch("/state.json")).json();
    const runNow = JSON.stringify(run), shown = document.getElementById("rows").dataset.state;
    const isOld = runSeen === undefined ? run?.state || document.querySelector("#run-pause button") : runSeen !== runNow;
    if (JSON.stringify(state) !== shown || isOld) await refresh();
    runSeen = runNow;
  } catch (error) {
    runSeen = "gone"; // the server was stopped; what is there stays, and the next answer of it is taken over
  }
  setTimeout(follow, FOLLOW_MS);
}

if (matchMedia("(max-width: 44rem)").matches && !location.search) document.getElementById("filters")?.removeAttribute("open");
if (document.getElementById("rows")) follow();

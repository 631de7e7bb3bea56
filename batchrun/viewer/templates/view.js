/* The viewer's one script: keys, and following a file that grows. All that is shown comes from the server as a page;
   parts of it are put in place of older ones, and no text is ever read as HTML of this page. */
"use strict";

const FOLLOW_MS = 1000;
const PARTS = ["found", "reading", "table", "damaged", "facets", "pages", "run-state", "run-pause", "run-limits"];
let here = -1;

const told = name => document.querySelector(`meta[name=batchrun-${name}]`).content;
const isGone = () => `The server has ended. To go on, type: ${told("command")}`;
const rows = () => [...document.querySelectorAll("#rows tbody tr[id]")];

/* The row that is gone to; past the last one, the first of the next page. */
function go(step) {
  const all = rows(), next = here + step;
  const link = document.querySelector(step > 0 ? "[rel=next]" : "[rel=prev]");
  if (link && (!all.length || next >= all.length || (next < 0 && here >= 0))) {
    location.assign(link.href + (all.length ? step > 0 ? "#first" : "#last" : ""));
  } else if (all.length) {
    stand(Math.max(0, Math.min(all.length - 1, next)));
  }
}

function stand(place) {
  here = place;
  rows().forEach((row, number) => row.classList.toggle("here", number === here));
  rows()[here].querySelector("a").focus();
}

/* Where the address says a row of this page, that is where the person was. */
function standAsBefore() {
  const all = rows(), name = location.hash.slice(1);
  const place = name === "first" ? 0 : name === "last" ? all.length - 1 : all.findIndex(row => row.id === name);
  if (all[place]) stand(place);
  else if (name === "q") document.getElementById("q")?.focus();
}

const keys = {
  j: () => go(1),
  k: () => go(-1),
  "/": () => {
    const search = document.getElementById("q");
    if (search) search.focus();
    else location.assign("/rows#q");
  },
  b: () => document.getElementById("back")?.click(),
};

document.addEventListener("keydown", event => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]") ||
    (event.key === "Enter" && event.target.closest("a, button, summary"));
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  if (!event.repeat || ["j", "k"].includes(event.key)) keys[event.key](event); // a key that is held decides once
});

/* Sends a change; what the server tells, or null where it was not made, which `said` then says. */
async function send(path, change, said, lost) {
  said.textContent = "";
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Batchrun-Token": told("token") },
      body: JSON.stringify(change),
    });
    const answered = await answer.json();
    if (answer.ok && answered.message === undefined) return answered;
    said.textContent = answered.message;
  } catch (error) {
    said.textContent = `${lost}. ${isGone()}`;
  }
  return null;
}

/* A long text: each next piece is put behind those that are there, as text. */
document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-part]");
  if (!button) return;
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; // and not `disabled`, which would take the focus away
  const said = button.nextElementSibling, text = button.closest(".long").firstElementChild;
  const query = new URLSearchParams({ part: button.dataset.part, from: button.dataset.from });
  try {
    const answer = await fetch(`/rows/${button.dataset.row}/text.json?${query}`);
    const piece = await answer.json();
    if (answer.ok) {
      text.append(document.createTextNode(piece.text));
      button.dataset.from = piece.next;
      said.textContent = piece.next === null ? "" : `${piece.left.toLocaleString("en")} more characters`;
      if (piece.next === null) {
        text.tabIndex = -1;
        text.focus({ preventScroll: true });
        button.hidden = true;
      }
    } else {
      said.textContent = piece.message;
    }
  } catch (error) {
    said.textContent = isGone();
  }
  button.ariaDisabled = "false";
});

/* Two files: the row with its differences, or with both texts; in the table, the next row that differs. */
keys.d = () => {
  const button = document.getElementById("both-texts"), said = document.getElementById("said");
  if (button) button.click();
  else if (said) said.textContent = document.getElementById("row").dataset.noDiff;
  const all = rows(), next = all.findIndex((row, place) => place > here && row.dataset.differs !== undefined);
  if (next >= 0) go(next - here);
};
document.addEventListener("click", event => {
  const button = event.target.closest("#both-texts");
  if (!button) return;
  const isOn = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!isOn));
  document.querySelectorAll("#comparison .diff").forEach(one => { one.hidden = !isOn; });
  document.querySelectorAll("#comparison .both").forEach(one => { one.hidden = isOn; });
});

document.addEventListener("keydown", event => {
  if (event.key === "Escape") document.activeElement?.blur();
});

document.querySelector("form[role=search]")?.addEventListener("submit", event => {
  for (const input of event.target.querySelectorAll("input")) input.disabled = !input.value; // not in the address
});
addEventListener("pageshow", standAsBefore);
addEventListener("pageshow", () => document.querySelectorAll("input:disabled").forEach(input => { input.disabled = false; }));

document.addEventListener("focusin", event => {
  const row = event.target.closest("#rows tbody tr[id]");
  if (row) here = rows().indexOf(row);
});
document.addEventListener("click", event => {
  const row = event.target.closest("#rows tbody tr[id]");
  if (row && event.target.closest("a")) history.replaceState(null, "", `#${row.id}`); // where it is to come back to
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
  const before = focused?.getBoundingClientRect().top, name = focused?.querySelector("a").textContent;
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
  const again = focused && here < 0 ? rows().findIndex(row => row.querySelector("a").textContent === name) : -1;
  if (again >= 0) stand(again); // the same row, made anew
  table.dataset.state = newer.dataset.state;
}

async function refresh() {
  const page = await fetch(location.href);
  if (page.ok) takeOver(new DOMParser().parseFromString(await page.text(), "text/html"));
}

/* The run that writes the file: paused, resumed, given other limits. */
const run = document.getElementById("run");
async function tune(change) {
  const isMade = await send("/run", change, document.getElementById("run-said"), "Nothing was changed");
  if (isMade) await refresh();
  return isMade;
}
if (run) {
  keys.p = () => document.querySelector("#run-pause button")?.click();
  run.addEventListener("click", event => {
    const button = event.target.closest("button[data-paused]");
    if (button) tune({ paused: button.dataset.paused === "true" });
  });
  run.addEventListener("submit", async event => {
    event.preventDefault();
    const changed = [...event.target.querySelectorAll("input")].filter(input => input.value !== input.defaultValue);
    document.activeElement?.blur();
    if (!changed.length) return;
    const told = changed.map(input => input.value), names = changed.map(input => input.name);
    const isMade = await tune(Object.fromEntries(names.map((name, place) => [name, told[place].trim() || "off"])));
    if (isMade) changed.forEach((input, place) => { input.defaultValue = told[place]; }); // what was refused is sent again
  });
}

/* The page is older than the index, or what the run tells has changed. */
let runSeen;
const gone = document.getElementById("gone");
async function follow() {
  try {
    const { run, ...state } = await (await fetch("/state.json")).json();
    const runNow = JSON.stringify(run), shown = document.getElementById("rows").dataset.state;
    const isOld = runSeen === undefined ? run?.state || document.querySelector("#run-pause button") : runSeen !== runNow;
    if (JSON.stringify(state) !== shown || isOld) await refresh();
    runSeen = runNow;
    gone.textContent = "";
  } catch (error) {
    runSeen = "gone"; // what is there stays, and the next answer is taken over
    if (!gone.textContent) gone.textContent = isGone();
  }
  setTimeout(follow, FOLLOW_MS);
}

if (matchMedia("(max-width: 44rem)").matches && !location.search) document.getElementById("filters")?.removeAttribute("open");
if (document.getElementById("rows")) follow();

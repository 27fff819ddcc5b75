// The report's two views, the addresses of its trajectories, and its keys.
import { byId, make, toggleTheme } from "../../web/dom.js";
import { detailOf, index, load, questions, rows } from "./data.js";
import { addressOf, backButton, drawDetail } from "./detail.js";
import { drawChips, matching, resetFilters, startFilters } from "./filters.js";
import { current, drawRows, neighbour, rowsInSight, select, showList, startList } from "./list.js";
import { columnsOf, startSteps } from "./steps.js";

async function applyFilters() {
  const positions = await matching();
  if (positions !== null) showList(positions);
}

function open(i) {
  history.replaceState(null, "", addressOf(i));
  show(i);
}

function move(step) {
  const next = neighbour(step);
  if (next >= 0) open(next);
}

async function show(i, reading = true) {
  byId("browser").classList.toggle("reading", reading);
  select(i);
  const columns = columnsOf(i);
  const details = await Promise.all(columns.map(detailOf));
  if (current === i) drawDetail(i, columns, details, move); // else another was opened meanwhile
}

/** Other validations stand side by side. */
function compareAnew() {
  drawChips(applyFilters);
  applyFilters();
  if (current >= 0) show(current);
}

/** Position of the trajectory with this address, -1 for none. */
function find(address) {
  const [, uid, sample] = address.split("/");
  let wanted;
  try {
    wanted = decodeURIComponent(uid);
  } catch {
    return -1;
  }
  for (const i of questions) {
    if (rows.uid[i] === wanted && String(rows.sample[i]) === sample) return i;
  }
  return -1;
}

function followAddress() {
  const hash = location.hash;
  const viewing = hash === "#trajectories" || hash.startsWith("#t/");
  byId("overview").hidden = viewing;
  byId("trajectories").hidden = !viewing;
  for (const [id, on] of [["tab-overview", !viewing], ["tab-trajectories", viewing]]) {
    if (on) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  if (!viewing) {
    if (hash.length > 1 && hash !== "#overview") byId(hash.slice(1))?.scrollIntoView();
    return;
  }
  if (!index) return;
  const i = hash.startsWith("#t/") ? find(hash) : -1;
  if (hash.startsWith("#t/") && i < 0) {
    byId("detail").replaceChildren(backButton(), make("p", "empty", "No trajectory of this evaluation has this address."));
    byId("browser").classList.add("reading");
    drawRows();
  } else if (i >= 0) show(i);
  else if (current < 0 && neighbour(0) >= 0) show(neighbour(0), false);
  else drawRows();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("trajectories").hidden || !index) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    event.target.blur?.();
    byId("browser").classList.remove("reading");
    return;
  }
  if (typing) return;
  const page = rowsInSight();
  const inDetail = byId("detail").contains(event.target);
  const steps = { j: 1, k: -1, PageDown: page, PageUp: -page, Home: -questions.length, End: questions.length };
  if (!inDetail) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1 });
  if (event.key === "/") byId("search").focus();
  else if (event.key === "r") {
    resetFilters();
    applyFilters();
  } else if (event.key in steps) move(steps[event.key]);
  else return;
  event.preventDefault();
}

async function start() {
  byId("theme").addEventListener("click", toggleTheme);
  addEventListener("hashchange", followAddress);
  followAddress();
  if (!("DecompressionStream" in globalThis)) {
    byId("matches").textContent = "This browser is too old for the viewer (it lacks DecompressionStream).";
    return;
  }
  await load();
  startSteps(compareAnew);
  startFilters(applyFilters);
  startList(open);
  await applyFilters();
  followAddress();
  addEventListener("keydown", onKey);
  // Milliseconds from the navigation to a usable page; benchmarks and tests read it.
  requestAnimationFrame(() => {
    document.documentElement.dataset.ready = Math.round(performance.now());
  });
}

start();

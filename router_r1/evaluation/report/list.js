// The list of trajectories; only the rows in sight are in the page.
import { byId, make } from "../../web/dom.js";
import { llmClass, number } from "../../web/trajectory.js";
import { index, questions, rows } from "./data.js";
import { columnsOf } from "./steps.js";

const ROW = 58; // pixels; page.css agrees
const SPARE = 6; // rows drawn above and below those in sight

let shown = []; // positions of the trajectories listed
let onOpen;

/** The trajectory that is open, -1 for none. */
export let current = -1;

/** Gets the list going; open is called with the position of the row that is clicked. */
export function startList(open) {
  onOpen = open;
  byId("list").addEventListener("scroll", drawRows, { passive: true });
  addEventListener("resize", drawRows);
}

export function showList(positions) {
  shown = positions;
  const count = shown.length.toLocaleString("en");
  const all = questions.length.toLocaleString("en");
  byId("matches").textContent =
    shown.length === questions.length ? `${count} trajectories` : `${count} of ${all} trajectories`;
  byId("rows").style.height = `${shown.length * ROW}px`;
  byId("list").scrollTop = 0;
  reveal();
  drawRows();
}

export function select(i) {
  current = i;
  reveal();
  drawRows();
}

/** The trajectory listed so many rows below the open one, or at an end of the list; -1 for none. */
export function neighbour(step) {
  if (!shown.length) return -1;
  const at = shown.indexOf(current);
  return shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step))];
}

/** Rows that fit into the list. */
export const rowsInSight = () => Math.max(1, Math.floor(byId("list").clientHeight / ROW) - 1);

export const verdictOf = (i) => (rows.format[i] < 0 ? "broken" : rows.em[i] >= 1 ? "right" : "wrong");

export function drawRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  const drawn = [];
  for (let at = first; at < last; at++) drawn.push(drawRow(at, shown[at]));
  byId("rows").replaceChildren(...drawn);
  if (!shown.length) byId("rows").append(make("p", "empty", "Nothing matches. Press r to reset."));
  const selected = byId(`row-${current}`);
  if (selected) list.setAttribute("aria-activedescendant", selected.id);
  else list.removeAttribute("aria-activedescendant");
}

function drawRow(at, i) {
  const names = rows.calls[i].map((llm) => index.llms[llm]);
  const asked = make("span", "asked");
  for (const name of names) asked.append(make("i", `swatch ${llmClass(index.llms, name)}`));
  asked.append(names.join(", ") || "no call");
  const row = make(
    "div",
    `row ${verdictOf(i)}`,
    make("div", "row-question", rows.question[i]),
    make(
      "div",
      "row-facts",
      make("span", "", index.sources[rows.source[i]]),
      asked,
      drawMarks(i),
      make("span", "numbers", `cost ${number(rows.cost[i], 1)} · reward ${number(rows.reward[i], 2)}`),
    ),
  );
  row.id = `row-${i}`;
  row.style.top = `${at * ROW}px`;
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", i === current);
  row.setAttribute("aria-posinset", at + 1);
  row.setAttribute("aria-setsize", shown.length);
  row.addEventListener("click", () => onOpen(i));
  return row;
}

/** A dot a validation, where several stand side by side. */
function drawMarks(i) {
  const columns = columnsOf(i);
  if (columns.length < 2) return null;
  return make("span", "marks", ...columns.map((k) => {
    const mark = make("i", `spot ${verdictOf(k)}`);
    mark.title = `step ${rows.step[k]}: ${verdictOf(k)}`;
    return mark;
  }));
}

/** Scrolls the list so that the open trajectory is in it. */
function reveal() {
  const at = shown.indexOf(current);
  const list = byId("list");
  if (at < 0 || !list.clientHeight) return;
  const [top, bottom] = [at * ROW, (at + 1) * ROW - list.clientHeight];
  const far = top < list.scrollTop - 2 * ROW || bottom > list.scrollTop + 2 * ROW;
  if (far) list.scrollTop = (top + bottom) / 2;
  else list.scrollTop = Math.min(top, Math.max(bottom, list.scrollTop));
}

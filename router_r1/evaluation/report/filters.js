// Which trajectories are listed, and in which order.
import { byId, make } from "../../web/dom.js";
import { allTexts, historyOf, index, questions, rows, steps } from "./data.js";
import { columnsOf } from "./steps.js";

const TESTS = {
  right: ["right", (i) => isRight(i)],
  wrong: ["wrong", (i) => !isRight(i)],
  costly: ["costly", (i) => rows.costly[i]],
  format: ["format failure", (i) => rows.format[i] < 0],
  failed: ["failed calls", (i) => rows.failed[i] > 0],
};
// From the first to the last of the validations that stand side by side.
const CHANGES = {
  gained: ["became right", (i) => changed(i, (a, b) => !isRight(a) && isRight(b))],
  lost: ["became wrong", (i) => changed(i, (a, b) => isRight(a) && !isRight(b))],
  rerouted: ["changed LLM", (i) => changed(i, (a, b) => rows.calls[a].join() !== rows.calls[b].join())],
};
const EXPLAINED = { costly: "the dearest tenth", right: "EM 1", wrong: "EM 0" };
const OPPOSITES = { right: "wrong", wrong: "right", gained: "lost", lost: "gained" };
const ORDERS = {
  "as evaluated": null,
  "dearest first": (i) => -rows.cost[i],
  "cheapest first": (i) => rows.cost[i],
  "lowest reward first": (i) => rows.reward[i],
  "most calls first": (i) => -rows.calls[i].length,
};
const TYPING_PAUSE_MS = 150;

const pressed = new Set();
let haystack = null; // made at the first search

/** What is searched for, lower case; empty for nothing. */
export let query = "";

const isRight = (i) => rows.em[i] >= 1;

function changed(i, test) {
  const columns = columnsOf(i);
  return columns.length > 1 && test(columns[0], columns.at(-1));
}

/** The chips' tests; changes only where there are several validations. */
const tests = () => (steps.length > 1 ? { ...TESTS, ...CHANGES } : TESTS);

/** Fills the controls; onChange is called whenever one of them is used. */
export function startFilters(onChange) {
  fillSelect("source", ["all datasets", ...index.sources], onChange);
  fillSelect("llm", ["any LLM", ...index.llms.map((name) => `asked ${name}`)], onChange);
  fillSelect("order", Object.keys(ORDERS), onChange);
  drawChips(onChange);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  let timer;
  byId("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      query = byId("search").value.trim().toLowerCase();
      onChange();
    }, TYPING_PAUSE_MS);
  });
}

export function resetFilters() {
  pressed.clear();
  query = byId("search").value = "";
  for (const id of ["source", "llm", "order"]) byId(id).selectedIndex = 0;
  showPressed();
}

/** Positions of the trajectories that pass; null if the search was typed on meanwhile. */
export async function matching() {
  const wanted = query;
  if (wanted && !haystack) {
    byId("matches").textContent = "Reading all trajectories…";
    haystack = await allTexts();
    if (wanted !== query) return null;
  }
  const source = byId("source").selectedIndex - 1;
  const llm = byId("llm").selectedIndex - 1;
  const wantedTests = [...pressed].map((name) => tests()[name][1]);
  const passing = [];
  for (const i of questions) {
    if (source >= 0 && rows.source[i] !== source) continue;
    if (llm >= 0 && !rows.calls[i].includes(llm)) continue;
    if (wanted && !historyOf(i).some((k) => haystack[k].includes(wanted))) continue;
    if (wantedTests.every((test) => test(i))) passing.push(i);
  }
  const key = ORDERS[byId("order").value];
  if (key) passing.sort((a, b) => key(a) - key(b) || a - b);
  return passing;
}

function fillSelect(id, names, onChange) {
  byId(id).replaceChildren(...names.map((name) => new Option(name)));
  byId(id).addEventListener("change", onChange);
}

/** Draws the chips with their counts, which the choice of validations changes. */
export function drawChips(onChange) {
  byId("chips").replaceChildren(
    ...Object.entries(tests()).map(([name, [label, test]]) => {
      const count = questions.filter(test).length;
      const chip = make("button", "chip", label, make("small", "", count.toLocaleString("en")));
      chip.type = "button";
      chip.dataset.filter = name;
      chip.title = EXPLAINED[name] ?? "";
      chip.addEventListener("click", () => {
        press(name);
        onChange();
      });
      return chip;
    }),
  );
  showPressed();
}

function press(name) {
  const on = pressed.delete(name);
  if (!on) pressed.add(name);
  if (!on) pressed.delete(OPPOSITES[name]);
  showPressed();
}

function showPressed() {
  for (const chip of byId("chips").children) {
    chip.setAttribute("aria-pressed", pressed.has(chip.dataset.filter));
  }
}

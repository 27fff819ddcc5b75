// Which trajectories are listed, and in which order.
import { byId, make } from "../../web/dom.js";
import { allTexts, index, rows, total } from "./data.js";

const TESTS = {
  right: ["right", (i) => rows.em[i] >= 1],
  wrong: ["wrong", (i) => !(rows.em[i] >= 1)],
  costly: ["costly", (i) => rows.costly[i]],
  format: ["format failure", (i) => rows.format[i] < 0],
  failed: ["failed calls", (i) => rows.failed[i] > 0],
};
const EXPLAINED = { costly: "the dearest tenth", right: "EM 1", wrong: "EM 0" };
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
  const tests = [...pressed].map((name) => TESTS[name][1]);
  const passing = [];
  for (let i = 0; i < total; i++) {
    if (source >= 0 && rows.source[i] !== source) continue;
    if (llm >= 0 && !rows.calls[i].includes(llm)) continue;
    if (wanted && !haystack[i].includes(wanted)) continue;
    if (tests.every((test) => test(i))) passing.push(i);
  }
  const key = ORDERS[byId("order").value];
  if (key) passing.sort((a, b) => key(a) - key(b) || a - b);
  return passing;
}

function fillSelect(id, names, onChange) {
  byId(id).replaceChildren(...names.map((name) => new Option(name)));
  byId(id).addEventListener("change", onChange);
}

function drawChips(onChange) {
  byId("chips").replaceChildren(
    ...Object.entries(TESTS).map(([name, [label, test]]) => {
      let count = 0;
      for (let i = 0; i < total; i++) if (test(i)) count++;
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
  if (!on && name === "right") pressed.delete("wrong");
  if (!on && name === "wrong") pressed.delete("right");
  showPressed();
}

function showPressed() {
  for (const chip of byId("chips").children) {
    chip.setAttribute("aria-pressed", pressed.has(chip.dataset.filter));
  }
}

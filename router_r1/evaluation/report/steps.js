// The validations of a run that stand side by side; an evaluation has one trajectory a question.
import { byId, make } from "../../web/dom.js";
import { historyOf, rows, steps } from "./data.js";

const MOST_AT_FIRST = 3;

let chosen = new Set();

/** Draws the choice where there is one; onChange is called when it is used. */
export function startSteps(onChange) {
  const middle = steps[Math.floor((steps.length - 1) / 2)];
  chosen = new Set(steps.length > MOST_AT_FIRST ? [steps[0], middle, steps.at(-1)] : steps);
  byId("steps").hidden = steps.length < 2;
  const chips = steps.map((step) => {
    const chip = make("button", "chip", String(step));
    chip.type = "button";
    chip.setAttribute("aria-pressed", chosen.has(step));
    chip.addEventListener("click", () => {
      if (chosen.has(step) && chosen.size > 1) chosen.delete(step);
      else chosen.add(step);
      chip.setAttribute("aria-pressed", chosen.has(step));
      onChange();
    });
    return chip;
  });
  byId("steps").append(...chips);
}

/** Positions of the question's trajectories at the chosen steps; of an evaluation, its own. */
export function columnsOf(i) {
  const columns = historyOf(i).filter((k) => chosen.has(rows.step?.[k]));
  return columns.length ? columns : [i];
}

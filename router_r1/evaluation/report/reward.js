// How a trajectory's reward came about, branch by branch: format, then outcome, then cost.
import { make } from "../../web/dom.js";
import { short } from "../../web/trajectory.js";
import { index, rows } from "./data.js";

export function drawReward(i, detail) {
  const box = make("div", "reward", make("h3", "", "Reward"));
  box.dataset.branch = detail.branch;
  if (detail.branch === "unknown") {
    box.append(make("p", "note", "This trajectory was not scored."));
    return box;
  }
  const [format, outcome, c, alpha] = [rows.format[i], rows.metric[i], detail.cost_reward, index.cost_coe];
  const broken = detail.branch === "format";
  const wrong = detail.branch === "outcome";
  const allFailed = detail.calls.length > 0 && rows.failed[i] === detail.calls.length;
  const metric = index.metric ?? "outcome";
  const name = metric.includes(":") ? metric : metric.toUpperCase(); // a function of the user's own
  box.append(
    step(1, broken ? "stop" : "pass", "Format", short(format),
      broken ? `Broken: ${detail.fault ?? "a format rule"}.` : "Every rule holds."),
    step(2, broken ? "skipped" : wrong ? "stop" : "pass", `Outcome: ${name}`, short(outcome),
      index.metric === "f1" ? `EM ${short(rows.em[i])}` : `F1 ${short(rows.f1[i])}`,
      broken ? "Does not count." : wrong ? "Wrong: nothing is earned." : ""),
    step(3, broken || wrong || alpha === 0 ? "skipped" : "pass", "Cost reward c", short(c),
      allFailed ? "Every call failed: no credit." : `Cost ${short(rows.cost[i])}; ${costRange()}`,
      broken || wrong ? "Does not count without a right answer in the right format."
        : alpha === 0 ? "Weighs nothing: the cost coefficient is 0." : ""),
    joined(i, broken, wrong, outcome, c, alpha, detail.step_reward),
  );
  if (!detail.follows) {
    box.append(make("p", "bad", "The recorded reward differs from this formula: it was computed with other coefficients."));
  }
  return box;
}

function costRange() {
  if (!index.cost_bounds) return "cheap is 1, dear is 0.";
  const [cheap, dear] = index.cost_bounds;
  return `${short(cheap)} or less is 1, ${short(dear)} or more is 0.`;
}

function step(place, state, title, value, ...texts) {
  const paragraphs = texts.filter(Boolean).map((text) => make("p", "", text));
  const element = make("div", `step ${state}`, make("span", "value", value), make("b", "", title), ...paragraphs);
  element.dataset.number = place;
  return element;
}

function joined(i, broken, wrong, outcome, c, alpha, steps) {
  const state = broken || wrong ? "stop" : "final";
  const reward = short(rows.reward[i]);
  const added = steps ? ` + ${short(steps)}` : "";
  const more = steps ? `And the rewards of its steps: ${short(steps)}.` : "";
  if (broken) return step(4, state, "Reward", reward, "The format penalty alone.", more);
  if (wrong) return step(4, state, "Reward", reward, "0 without a right answer, whatever the cost.", more);
  if (alpha === null) {
    return step(4, state, "Reward", reward, "(1 − α) · outcome + α · c; the evaluation does not say its α.", more);
  }
  const element = step(4, state, "Reward", reward);
  const inferred = index.inferred ? " (inferred from the rewards)" : "";
  element.append(
    make("p", "", `(1 − α) · outcome + α · c, α = ${alpha}${inferred}`),
    make("p", "formula", `${short(1 - alpha)} · ${short(outcome)} + ${alpha} · ${short(c)}${added} = ${reward}`),
  );
  if (more) element.append(make("p", "", more));
  return element;
}

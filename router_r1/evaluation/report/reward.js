// How a trajectory's reward came about, branch by branch: format, then outcome, then cost and latency.
import { make } from "../../web/dom.js";
import { short } from "../../web/trajectory.js";
import { index, rows } from "./data.js";

const CALL_SECONDS = 6; // place of the seconds in the array of a call

export function drawReward(i, detail) {
  const box = make("div", "reward", make("h3", "", "Reward"));
  box.dataset.branch = detail.branch;
  if (detail.branch === "unknown") {
    box.append(make("p", "note", "This trajectory was not scored."));
    return box;
  }
  const [format, outcome, alpha] = [rows.format[i], rows.metric[i], detail.cost_coe];
  const broken = detail.branch === "format";
  const wrong = detail.branch === "outcome";
  const allFailed = detail.calls.length > 0 && rows.failed[i] === detail.calls.length;
  const metric = index.metric ?? "outcome";
  const name = metric.includes(":") ? metric : metric.toUpperCase(); // a function of the user's own
  const weighed = index.cost_unit === "dollars" ? rows.dollars[i] * 1e6 : rows.cost[i];
  const seconds = detail.calls.reduce((sum, call) => sum + call[CALL_SECONDS], 0);
  const rewards = [
    { title: "Cost reward c", value: detail.cost_reward, weight: alpha, coefficient: "cost",
      text: `${index.cost_unit === "dollars" ? "Cost with prompts" : "Cost"} ${short(weighed)}; ${rangeOf(index.cost_bounds, "cheap", "dear")}` },
    { title: "Latency reward l", value: detail.latency_reward, weight: index.latency_coe, coefficient: "latency",
      text: `Calls took ${short(seconds)} s; ${rangeOf(index.latency_bounds, "fast", "slow")}` },
  ].slice(0, index.latency_coe ? 2 : 1);
  box.append(
    step(1, broken ? "stop" : "pass", "Format", short(format),
      broken ? `Broken: ${detail.fault ?? "a format rule"}.` : "Every rule holds."),
    step(2, broken ? "skipped" : wrong ? "stop" : "pass", `Outcome: ${name}`, short(outcome),
      index.metric === "f1" ? `EM ${short(rows.em[i])}` : `F1 ${short(rows.f1[i])}`,
      broken ? "Does not count." : wrong ? "Wrong: nothing is earned." : ""),
    ...rewards.map(({ title, value, weight, coefficient, text }, place) =>
      step(3 + place, broken || wrong || weight === 0 ? "skipped" : "pass", title, short(value),
        allFailed ? "Every call failed: no credit." : text,
        broken || wrong ? "Does not count without a right answer in the right format."
          : weight === 0 ? `Weighs nothing: the ${coefficient} coefficient is 0.` : "")),
    joined(i, 3 + rewards.length, broken, wrong, detail),
  );
  if (!detail.follows) {
    box.append(make("p", "bad", "The recorded reward differs from this formula: it was computed with other coefficients."));
  }
  return box;
}

function rangeOf(bounds, best, worst) {
  if (!bounds) return `${best} is 1, ${worst} is 0.`;
  return `${short(bounds[0])} or less is 1, ${short(bounds[1])} or more is 0.`;
}

function step(place, state, title, value, ...texts) {
  const paragraphs = texts.filter(Boolean).map((text) => make("p", "", text));
  const element = make("div", `step ${state}`, make("span", "value", value), make("b", "", title), ...paragraphs);
  element.dataset.number = place;
  return element;
}

function joined(i, place, broken, wrong, detail) {
  const state = broken || wrong ? "stop" : "final";
  const [reward, steps, alpha] = [short(rows.reward[i]), detail.step_reward, detail.cost_coe];
  const added = steps ? ` + ${short(steps)}` : "";
  const more = steps ? `And the rewards of its steps: ${short(steps)}.` : "";
  if (broken) return step(place, state, "Reward", reward, "The format penalty alone.", more);
  if (wrong) return step(place, state, "Reward", reward, "0 without a right answer, whatever the cost.", more);
  if (alpha === null) {
    return step(place, state, "Reward", reward, `${ruleOf("outcome", "α", "c", "λ", "l")}; the evaluation does not say its α.`, more);
  }
  const element = step(place, state, "Reward", reward);
  const inferred = index.inferred ? " (inferred from the rewards)" : "";
  const weights = `α = ${alpha}${inferred}${index.latency_coe ? `, λ = ${index.latency_coe}` : ""}`;
  const values = [rows.metric[i], alpha, detail.cost_reward, index.latency_coe, detail.latency_reward];
  element.append(
    make("p", "", `${ruleOf("outcome", "α", "c", "λ", "l")}, ${weights}`),
    make("p", "formula", `${ruleOf(...values.map((value) => short(value)))}${added} = ${reward}`),
  );
  if (more) element.append(make("p", "", more));
  return element;
}

/** The rule of reward/joined.py, in symbols or in numbers. */
function ruleOf(outcome, alpha, c, lambda, l) {
  const timed = index.latency_coe > 0;
  if (index.form === "multiplicative") {
    return `${outcome} · (1 − ${alpha} · (1 − ${c})${timed ? ` − ${lambda} · (1 − ${l})` : ""})`;
  }
  return `(1 − ${alpha}${timed ? ` − ${lambda}` : ""}) · ${outcome} + ${alpha} · ${c}${timed ? ` + ${lambda} · ${l}` : ""}`;
}

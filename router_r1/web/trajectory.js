// Draws a trajectory: its blocks, its calls, and what they took in all.
//
// A call is an object with the fields of the agent's own records: llm, outcome, prompt_tokens,
// completion_tokens, cost (completion tokens x $ per 1M), dollars, latency_s, and, where they hold,
// neutralised (a count), usage_estimated and replayed. llms is the list of the pool's names: an
// LLM's position in it is its colour.
import { make } from "./dom.js";

export const UNKNOWN_LLM = "unknown name";
const FLAGS = ["usage_estimated", "replayed"];
const KINDS = {
  think: "think",
  search: "search",
  observation: "information",
  answer: "answer",
  forged: "information written by the policy itself",
  loose: "outside of every tag",
};

export const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
export const short = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));

/** Dollars in decimals, however few they are: a call can cost less than a millionth. */
export const money = (value) =>
  value === null ? "–" : `$${value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: false })}`;

/** The class that gives an LLM its colour. */
export function llmClass(llms, name) {
  const place = llms.indexOf(name);
  return place < 0 || name === UNKNOWN_LLM ? "llm-none" : `llm-${place % 10}`;
}

/** A block of a trajectory: kind is a key of KINDS, children begin with its text. */
export function drawBlock(kind, ...children) {
  return make("div", `block ${kind}`, make("div", "kind", KINDS[kind]), ...children);
}

export function drawLLM(llms, name) {
  return make("span", `llm-tag ${llmClass(llms, name)}`, name);
}

/** The line of facts below the search that made the call. */
export function drawCall(llms, call) {
  const facts = [
    drawLLM(llms, call.llm),
    make("span", call.outcome === "ok" ? "ok" : "failed", call.outcome.replaceAll("_", " ")),
    make("span", "", `${short(call.latency_s)} s`),
    make("span", "", `${call.prompt_tokens} → ${call.completion_tokens} tokens`),
    make("span", "", `cost ${short(call.cost)}`),
    make("span", "", money(call.dollars)),
  ];
  if (call.neutralised) facts.push(make("span", "failed", `${call.neutralised} tags neutralised`));
  for (const flag of FLAGS) if (call[flag]) facts.push(make("span", "", flag.replaceAll("_", " ")));
  return make("div", "call", ...facts);
}

/** A call from the array that a page's data holds (see report/trajectories.py), with the reply where
    that is not the observation. */
export function callOf([llm, outcome, prompt, completion, cost, dollars, latency, reply, neutralised, flags]) {
  return {
    llm,
    outcome,
    prompt_tokens: prompt,
    completion_tokens: completion,
    cost,
    dollars,
    latency_s: latency,
    reply,
    neutralised,
    ...Object.fromEntries(flags.map((flag) => [flag, true])),
  };
}

/** One [kind, text, place of its call or null] of a trajectory; drawText makes a text's element. */
export function drawStory(llms, [kind, text, place], calls, drawText = plainText) {
  const block = drawBlock(kind, drawText(text.trim()));
  const call = place === null ? null : calls[place];
  if (kind === "search") {
    block.append(call === null ? make("div", "call", make("span", "failed", "not routed")) : drawCall(llms, call));
  }
  if (kind === "observation" && call !== null && call.reply !== null) {
    block.append(make("details", "", make("summary", "", "The reply as it came"), drawText(call.reply)));
  }
  return block;
}

const plainText = (text) => make("div", "text", text);

/** What all calls took together; cost and dollars are the trajectory's, more are [label, text] pairs. */
export function drawSums(calls, cost, dollars, more = []) {
  const sum = (field) => calls.reduce((all, call) => all + (call[field] ?? 0), 0);
  const failed = calls.filter((call) => call.outcome !== "ok").length;
  const pairs = [
    ["calls", `${calls.length}${failed ? `, ${failed} failed` : ""}`],
    ["tokens in → out", `${sum("prompt_tokens")} → ${sum("completion_tokens")}`],
    ["cost (tokens × $/1M)", short(cost)],
    ["dollars", money(dollars)],
    ["time in calls", `${short(sum("latency_s"))} s`],
    ...more,
  ];
  return make("div", "sums", ...pairs.flatMap((pair) => pair.map((text) => make("span", "", text))));
}

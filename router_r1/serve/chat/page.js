// The chat page: asks one question at a time and shows how the router comes to its answer.
import { button, byId, make, toggleTheme } from "../../web/dom.js";
import { drawLLM } from "../../web/trajectory.js";
import { APIFault, ask, servedModel } from "./api.js";
import { Exchange, restore } from "./exchange.js";
import { earlier, forget, keep } from "./history.js";

const EXAMPLES_SHOWN = 3;
const NEAR_END_PX = 80;
const UNAUTHORIZED = 401;

let key = null; // in memory only
let card = null; // of the model that is served; null until the server has shown it
let records = [];
let chosenWeight = null; // what cost counts; null where the router is not told
let running = null; // aborts the question under way

// -- the server ------------------------------------------------------------------------------
async function connect() {
  try {
    card = await servedModel(key);
  } catch (error) {
    if (!(error instanceof APIFault)) throw error;
    if (error.status === UNAUTHORIZED) askForKey(key === null ? "" : "The server does not accept this key.");
    else byId("fault").textContent = error.message;
    return;
  }
  byId("fault").textContent = "";
  byId("key-form").hidden = true;
  byId("ask-form").hidden = false;
  byId("model").textContent = card.id;
  byId("weight").hidden = card.router.cost_coe === null;
  chosenWeight ??= card.router.cost_coe;
  byId("cost-coe").value = chosenWeight ?? 0;
  showWeight();
  const names = card.router.llms.map((llm) => llm.name);
  byId("choice").hidden = false;
  byId("pool").replaceChildren(
    ...card.router.llms.map((llm) =>
      make("li", "", drawLLM(names, llm.name), ` $${llm.completion_price} per 1M tokens`, make("div", "about", llm.descriptor)),
    ),
  );
  if (!byId("log").childElementCount) {
    for (const record of records) byId("log").append(restore(record, card.router, accepted(record.question)).element);
  }
  showSurroundings();
  focusQuestion();
  if (records.length) toEnd();
}

function askForKey(fault) {
  byId("welcome").hidden = byId("log").childElementCount > 0;
  byId("key-form").hidden = false;
  byId("ask-form").hidden = true;
  byId("key-fault").textContent = fault;
  byId("key").focus({ preventScroll: true });
}

const accepted = (question) =>
  card.router.examples.find((example) => example.question === question)?.answer ?? null;

/** Welcome, examples and buttons, as they fit what is in the log. */
function showSurroundings() {
  byId("welcome").hidden = byId("log").childElementCount > 0;
  byId("clear").hidden = running !== null || !byId("log").childElementCount;
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
  const asked = new Set(records.map((record) => record.question));
  const open = card.router.examples.filter((example) => !asked.has(example.question)).slice(0, EXAMPLES_SHOWN);
  byId("examples").hidden = running !== null || !open.length;
  byId("examples").replaceChildren(
    make("h3", "", asked.size ? "Another one" : "Examples"),
    ...open.map(({ question }) => button(question, () => submit(question))),
  );
}

// -- a question ------------------------------------------------------------------------------
async function submit(question) {
  if (running || !question) return;
  if (!card) {
    await connect(); // the server may be back
    if (!card) return;
  }
  const exchange = new Exchange(question, card.router, accepted(question), chosenWeight);
  const controller = new AbortController();
  running = controller;
  byId("log").append(exchange.element);
  byId("question").value = "";
  focusQuestion();
  showSurroundings();
  toEnd();
  say("Thinking");
  const start = performance.now();
  let end;
  try {
    end = await ask(question, chosenWeight, card.id, key, controller.signal, (part) => followed(() => say(exchange.take(part))));
    end.seconds = (performance.now() - start) / 1000;
  } catch (error) {
    if (error.name === "AbortError") end = { stopped: true };
    else if (error instanceof APIFault) end = { fault: error.message };
    else throw error;
    if (error.status === UNAUTHORIZED) {
      exchange.element.remove();
      byId("question").value = question;
      running = null;
      showSurroundings();
      askForKey(key === null ? "" : "The server does not accept this key any more.");
      return;
    }
  }
  running = null;
  followed(() => {
    say(exchange.finish(end));
    records.push(exchange.record);
    showSurroundings();
  });
  keep(records);
}

/** Makes a change to the log; who read its end goes on reading it. */
function followed(change) {
  const { scrollHeight, scrollTop, clientHeight } = document.scrollingElement;
  const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  change();
  if (atEnd) toEnd();
}

function toEnd() {
  document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
}

/** For those who cannot see the page; token by token would be too much. */
function say(words) {
  if (words) byId("status").textContent = words;
}

/** What the slider says, in words. */
function showWeight() {
  byId("weight-words").textContent = `cost counts ${chosenWeight}`;
}

// -- controls --------------------------------------------------------------------------------
const stop = () => running?.abort();

function clear() {
  records = [];
  forget();
  byId("log").replaceChildren();
  showSurroundings();
  focusQuestion();
}

/** Not on a touch screen: its keyboard would hide the answer. */
function focusQuestion() {
  if (!matchMedia("(pointer: coarse)").matches) byId("question").focus({ preventScroll: true });
}

function onKey(event) {
  if (event.key === "Escape") stop();
  else if (event.key === "Enter" && event.target === byId("question") && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit(byId("question").value.trim());
  }
}

function start() {
  records = earlier();
  byId("theme").addEventListener("click", toggleTheme);
  byId("clear").addEventListener("click", clear);
  byId("stop").addEventListener("click", stop);
  byId("cost-coe").addEventListener("input", () => {
    chosenWeight = Number(byId("cost-coe").value);
    showWeight();
  });
  addEventListener("keydown", onKey);
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(byId("question").value.trim());
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value;
    byId("key").value = "";
    connect();
  });
  connect();
}

start();

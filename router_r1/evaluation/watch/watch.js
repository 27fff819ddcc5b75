// Follows a run: asks its server for the run's state again and again, and draws what has changed.
import { byId, make, toggleTheme } from "../../web/dom.js";
import { callOf, drawStory, llmClass, short } from "../../web/trajectory.js";

const PAUSE_MS = 1500; // between two questions
const VERDICTS = { right: "✓ right", wrong: "✗ wrong", broken: "! format failure" };

let version = ""; // of the state that is drawn
let held = false;
const toggled = new Map(); // samples that the reader has opened or closed

async function follow() {
  if (!held) {
    try {
      const reply = await fetch(`state?known=${version}`);
      if (reply.status === 200) draw(await reply.json());
      byId("lost").hidden = true;
    } catch {
      byId("lost").hidden = false;
    }
  }
  setTimeout(follow, PAUSE_MS);
}

function draw(state) {
  version = state.version;
  document.title = `${state.progress} · ${byId("name").textContent}`;
  byId("phase").textContent = state.phase;
  byId("phase").dataset.phase = state.phase;
  byId("overview").innerHTML = state.overview; // the server has escaped all text in it
  byId("samples").hidden = state.samples === null;
  byId("steps").replaceChildren(...(state.samples ? drawSteps(state.samples) : []));
  document.documentElement.dataset.version = version;
}

function drawSteps({ index, details }) {
  const steps = [...new Set(index.rows.step)];
  return steps.map((step) => {
    const samples = details
      .map((detail, i) => [detail, i])
      .filter(([, i]) => index.rows.step[i] === step)
      .map(([detail, i]) => drawSample(index, detail, i, step === steps[0]));
    return make("div", "", make("h3", "step-name", `Step ${step}`), make("div", "samples", ...samples));
  });
}

function drawSample(index, detail, i, isNewest) {
  const rows = index.rows;
  const verdict = rows.format[i] < 0 ? "broken" : rows.em[i] >= 1 ? "right" : "wrong";
  const asked = rows.calls[i].map((llm) =>
    make("span", "", make("i", `swatch ${llmClass(index.llms, index.llms[llm])}`), index.llms[llm]));
  const facts = make("div", "facts", make("span", "verdict", VERDICTS[verdict]), ...asked,
    make("span", "", `reward ${short(rows.reward[i])}`), make("span", "", `cost ${short(rows.cost[i])}`));
  const calls = detail.calls.map(callOf);
  const story = make("div", "story", ...detail.blocks.map((block) => drawStory(index.llms, block, calls)),
    make("p", "accepted", `Accepted: ${detail.gold.join(" · ")}`));
  const sample = make("details", `sample ${verdict}`,
    make("summary", "", make("div", "asked-for", rows.question[i]), facts), story);
  const key = `${rows.step[i]} ${rows.uid[i]} ${rows.sample[i]}`;
  sample.open = toggled.get(key) ?? isNewest;
  sample.querySelector("summary").addEventListener("click", () => toggled.set(key, !sample.open));
  return sample;
}

function hold() {
  held = !held;
  byId("hold").setAttribute("aria-pressed", held);
  byId("hold").textContent = held ? "Held" : "Hold";
}

byId("theme").addEventListener("click", toggleTheme);
byId("hold").addEventListener("click", hold);
follow();

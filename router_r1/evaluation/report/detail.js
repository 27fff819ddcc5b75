// The open trajectory: its verdict, its story, its reward, what it took.
import { button, byId, make } from "../../web/dom.js";
import { callOf, drawStory, drawSums, short } from "../../web/trajectory.js";
import { index, rows } from "./data.js";
import { query } from "./filters.js";
import { verdictOf } from "./list.js";
import { drawReward } from "./reward.js";

const VERDICTS = { right: "✓ right", wrong: "✗ wrong", broken: "! format failure" };

export const addressOf = (i) => `#t/${encodeURIComponent(rows.uid[i])}/${rows.sample[i]}`;

/** Only narrow windows show it: there the trajectory hides the list. */
export function backButton() {
  return button("‹ list", () => byId("browser").classList.remove("reading"), "back");
}

/** Shows trajectory i, at the steps of columns (positions, with their details) side by side where
    there are several; move is called with 1 or -1 to go to a neighbour. */
export function drawDetail(i, columns, details, move) {
  const page = byId("detail");
  const isOne = columns.length === 1;
  page.className = isOne ? verdictOf(columns[0]) : "compared";
  page.replaceChildren(
    drawCrumbs(i, isOne ? columns[0] : null, move),
    make("h2", "question", rows.question[i]),
    ...(isOne ? drawTrajectory(columns[0], details[0]) : drawColumns(columns, details)),
  );
  page.scrollTop = 0;
}

function drawTrajectory(i, detail) {
  const calls = detail.calls.map(callOf);
  const answers = make("dl", "answers");
  answers.append(
    make("dt", "", "Answer"),
    make("dd", "given", rows.answer[i] ?? "none given"),
    make("dt", "", "Accepted"),
    make("dd", "", detail.gold.join(" · ")),
  );
  return [answers, make("div", "parts", storyOf(detail, calls), asideOf(i, detail, calls))];
}

/** A column a validation: its answer, its story, and folded up how its reward came about. */
function drawColumns(columns, details) {
  const drawn = columns.map((i, place) => {
    const detail = details[place];
    const calls = detail.calls.map(callOf);
    const before = columns[place - 1];
    const isRerouted = place > 0 && rows.calls[i].join() !== rows.calls[before].join();
    const answer = make("dl", "answers", make("dt", "", "Answer"), make("dd", "given", rows.answer[i] ?? "none given"));
    const head = make(
      "div",
      "column-head",
      make("h3", "", `Step ${rows.step[i]}`),
      make("span", "verdict", VERDICTS[verdictOf(i)]),
      isRerouted ? make("span", "rerouted", "other LLMs") : null,
    );
    const reward = make("details", "", make("summary", "", `Reward ${short(rows.reward[i])}, and sums`), asideOf(i, detail, calls));
    return make("div", `column ${verdictOf(i)}`, head, answer, storyOf(detail, calls), reward);
  });
  const gold = make("dl", "answers", make("dt", "", "Accepted"), make("dd", "", details[0].gold.join(" · ")));
  return [gold, make("div", "columns", ...drawn)];
}

function storyOf(detail, calls) {
  return make("div", "", ...detail.blocks.map((block) => drawStory(index.llms, block, calls, marked)));
}

function asideOf(i, detail, calls) {
  const sums = make("div", "", make("h3", "", "In all"), drawSums(calls, rows.cost[i], rows.dollars[i]));
  return make("aside", "side", drawReward(i, detail), sums);
}

/** What is known of the question, and of the trajectory k where it stands alone. */
function drawCrumbs(i, k, move) {
  const link = make("a", "mono", rows.uid[i]);
  link.href = addressOf(i);
  link.title = "Address of this trajectory";
  const moves = make("span", "moves", button("↑", () => move(-1)), button("↓", () => move(1)));
  return make(
    "div",
    "crumbs",
    backButton(),
    k === null ? null : make("span", "verdict", VERDICTS[verdictOf(k)]),
    make("span", "", index.sources[rows.source[i]]),
    link,
    make("span", "", `sample ${rows.sample[i]}`),
    k === null ? null : make("span", "", index.statuses[rows.status[k]].replaceAll("_", " ")),
    moves,
  );
}

/** The text of a block, with what the search found marked. */
function marked(text) {
  const element = make("div", "text");
  const lower = text.toLowerCase();
  let at = 0;
  if (query && lower.length === text.length) {
    for (let hit = lower.indexOf(query); hit >= 0; hit = lower.indexOf(query, at)) {
      element.append(text.slice(at, hit), make("mark", "", text.slice(hit, hit + query.length)));
      at = hit + query.length;
    }
  }
  element.append(text.slice(at));
  return element;
}

// The open trajectory: its verdict, its story, its reward, what it took.
import { button, byId, make } from "../../web/dom.js";
import { drawBlock, drawCall, drawSums } from "../../web/trajectory.js";
import { callOf, index, rows } from "./data.js";
import { query } from "./filters.js";
import { verdictOf } from "./list.js";
import { drawReward } from "./reward.js";

const VERDICTS = { right: "✓ right", wrong: "✗ wrong", broken: "! format failure" };

export const addressOf = (i) => `#t/${encodeURIComponent(rows.uid[i])}/${rows.sample[i]}`;

/** Only narrow windows show it: there the trajectory hides the list. */
export function backButton() {
  return button("‹ list", () => byId("browser").classList.remove("reading"), "back");
}

/** Shows trajectory i; move is called with 1 or -1 to go to a neighbour. */
export function drawDetail(i, detail, move) {
  const verdict = verdictOf(i);
  const page = byId("detail");
  page.className = verdict;
  const calls = detail.calls.map(callOf);
  const answers = make("dl", "answers");
  answers.append(
    make("dt", "", "Answer"),
    make("dd", "given", rows.answer[i] ?? "none given"),
    make("dt", "", "Accepted"),
    make("dd", "", detail.gold.join(" · ")),
  );
  const story = make("div", "", ...detail.blocks.map((block) => drawStory(block, calls)));
  const sums = make("div", "", make("h3", "", "In all"), drawSums(calls, rows.cost[i], rows.dollars[i]));
  page.replaceChildren(
    drawCrumbs(i, verdict, move),
    make("h2", "question", rows.question[i]),
    answers,
    make("div", "parts", story, make("aside", "side", drawReward(i, detail), sums)),
  );
  page.scrollTop = 0;
}

function drawCrumbs(i, verdict, move) {
  const link = make("a", "mono", rows.uid[i]);
  link.href = addressOf(i);
  link.title = "Address of this trajectory";
  const moves = make("span", "moves", button("↑", () => move(-1)), button("↓", () => move(1)));
  return make(
    "div",
    "crumbs",
    backButton(),
    make("span", "verdict", VERDICTS[verdict]),
    make("span", "", index.sources[rows.source[i]]),
    link,
    make("span", "", `sample ${rows.sample[i]}`),
    make("span", "", index.statuses[rows.status[i]].replaceAll("_", " ")),
    moves,
  );
}

function drawStory([kind, text, place], calls) {
  const block = drawBlock(kind, marked(text.trim()));
  const call = place === null ? null : calls[place];
  if (kind === "search") {
    block.append(call === null ? make("div", "call", make("span", "failed", "not routed")) : drawCall(index.llms, call));
  }
  if (kind === "observation" && call !== null && call.reply !== null) {
    block.append(make("details", "", make("summary", "", "The reply as it came"), marked(call.reply)));
  }
  return block;
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

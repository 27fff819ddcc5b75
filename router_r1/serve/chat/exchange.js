// One question and what became of it, drawn while it happens.
//
// Its record (question, parts, end) is plain data: drawing the record's parts again gives the same
// page, which is how earlier questions come back.
import { make } from "../../web/dom.js";
import { drawBlock, drawCall, drawLLM, drawSums, short } from "../../web/trajectory.js";
import { SectionReader } from "./sections.js";

const KIND_OF_SECTION = { "": "loose", information: "forged" };
const INVALID = {
  "no-action": "This turn holds neither a complete search nor an answer.",
  "invalid-1": "This search holds a placeholder of the prompt.",
  "invalid-2": "This search names no LLM: it has no “:”.",
  "invalid-3": "This search has no query.",
};
const ENDINGS = {
  turns_exhausted: "No answer: all turns are used up.",
  truncated: "No answer: the context is full.",
  failed: "No answer: the trajectory failed.",
};
const INFORMATION = /^\s*<information>([\s\S]*)<\/information>\s*$/;
const CLOCK_MS = 100;

export class Exchange {
  #story = make("div", "story");
  #waiting = make("p", "waiting", "Waiting for the router…");
  #reader;
  #kind = null; // of the block that grows
  #text = null; // its node
  #search = null; // the newest search block, until its call is known
  #clock = null;

  /**
   * router: what the model's card says of it; accepted: the answer that is known to be right,
   * null if none is; costCoe: what cost counts, null where the router is not told.
   */
  constructor(question, router, accepted, costCoe) {
    this.record = { question, costCoe, parts: [], end: null };
    this.#reader = new SectionReader(router.route_tag);
    this.names = router.llms.map((llm) => llm.name);
    this.about = new Map(router.llms.map((llm) => [llm.name, llm.descriptor]));
    this.accepted = accepted;
    this.element = make("article", "exchange running", make("h2", "question", question), this.#story);
    if (costCoe !== null) this.#story.before(make("p", "preference", `Cost counts ${costCoe}.`));
    this.#story.append(this.#waiting);
  }

  /** Draws a part of the stream (see api.js) and keeps it; the news for those who cannot see, or "". */
  take(part) {
    const { parts } = this.record;
    if (typeof part === "string" && typeof parts.at(-1) === "string") parts[parts.length - 1] += part;
    else parts.push(part);
    this.#waiting.remove();
    if (typeof part === "string") {
      this.#write(this.#reader.push(part));
      return "";
    }
    if (part.event === "turn") this.#endTurn(part);
    else if (part.event === "call") this.#showAsking(part.llm);
    else if (part.event === "result") this.#showCall(drawCall(this.names, part));
    else if (part.event === "information") this.#showReply(part.text);
    if (part.event === "call") return `Asking ${part.llm}`;
    if (part.event === "result") return part.outcome === "ok" ? `${part.llm} replied` : `${part.llm} failed`;
    return "";
  }

  /**
   * Draws how it ended: {answer, router, usage, seconds}, {stopped: true} or {fault: text}.
   * Returns it in words.
   */
  finish(end) {
    this.record.end = end;
    this.#waiting.remove();
    this.#write(this.#reader.end());
    this.#closeBlock();
    this.element.classList.remove("running");
    const cut = end.stopped || end.fault;
    if (this.#search) this.#showCall(remarkLine(cut ? "not awaited" : "not routed"));
    if (cut) {
      const words = end.stopped ? "Stopped." : end.fault;
      this.#story.append(make("p", end.stopped ? "remark" : "fault", words));
      return words;
    }
    const answered = end.router.status === "answered";
    if (answered) this.#story.append(this.#drawAnswer(end.answer));
    else this.#story.append(make("p", "remark", ENDINGS[end.router.status]));
    const own = [["router's tokens", String(end.usage.completion_tokens)], ["time in all", `${short(end.seconds)} s`]];
    const { cost, dollars } = end.usage.pool;
    this.element.append(make("div", "total", drawSums(end.router.calls, cost, dollars, own)));
    return answered ? `Answer: ${end.answer}` : ENDINGS[end.router.status];
  }

  #drawAnswer(answer) {
    const block = drawBlock("answer", make("div", "text", answer || "(empty)"));
    if (this.accepted !== null) {
      const right = answer.toLowerCase() === this.accepted.toLowerCase();
      const mark = right ? "✓" : "✗";
      block.append(make("div", `accepted ${right ? "right" : ""}`, `${mark} The world's own answer: ${this.accepted}`));
    }
    return block;
  }

  #write(pieces) {
    for (const [section, text] of pieces) {
      const kind = KIND_OF_SECTION[section] ?? section;
      if (kind !== this.#kind) {
        if (!text.trim()) continue; // between two blocks
        this.#openBlock(kind);
      }
      this.#text.raw += text;
      this.#text.data = this.#text.raw.trim();
    }
  }

  #openBlock(kind) {
    this.#closeBlock();
    this.#kind = kind;
    this.#text = Object.assign(document.createTextNode(""), { raw: "" });
    const block = drawBlock(kind, make("div", "text", this.#text));
    block.classList.add("open");
    if (kind === "search") this.#search = block;
    this.#story.append(block);
  }

  #closeBlock() {
    this.#story.querySelector(".open")?.classList.remove("open");
    this.#kind = null;
  }

  #endTurn({ action, reason }) {
    this.#write(this.#reader.end());
    this.#closeBlock();
    if (action !== "invalid") return;
    this.#search = null;
    this.#story.append(make("p", "remark", INVALID[reason]));
  }

  #showAsking(llm) {
    if (!this.#search) this.#openBlock("search"); // its text stood under another tag
    this.#closeBlock();
    const wait = make("span", "wait", "asking…");
    const line = make("div", "call asking", drawLLM(this.names, llm), make("span", "about", this.about.get(llm) ?? ""), wait);
    this.#search.append(line);
    const start = performance.now();
    this.#clock = setInterval(() => {
      wait.textContent = `asking… ${((performance.now() - start) / 1000).toFixed(1)} s`;
    }, CLOCK_MS);
  }

  /** The line that says what became of the newest search. */
  #showCall(line) {
    clearInterval(this.#clock);
    this.#search.querySelector(".asking")?.remove();
    this.#search.append(line);
    this.#search = null;
  }

  #showReply(block) {
    const text = INFORMATION.exec(block)?.[1] ?? block;
    this.#story.append(drawBlock("observation", make("div", "text", text.trim())));
  }
}

const remarkLine = (words) => make("div", "call", make("span", "failed", words));

/** An exchange of an earlier visit. */
export function restore({ question, costCoe, parts, end }, router, accepted) {
  const exchange = new Exchange(question, router, accepted, costCoe ?? null);
  for (const part of parts) exchange.take(part);
  exchange.finish(end);
  return exchange;
}

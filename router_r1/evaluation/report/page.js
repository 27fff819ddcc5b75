"use strict";
// The trajectory viewer. All text from the data enters the page as text nodes, never as markup.
(() => {
  const ROW = 58; // pixels; page.css agrees
  const byId = (id) => document.getElementById(id);

  function make(name, className, ...children) {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // -- data ---------------------------------------------------------------------------------
  // Base64 of deflated JSON, see trajectories.py.
  const chunks = new Map();
  async function unpack(id) {
    const text = atob(byId(id).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }
  function chunk(number) {
    if (!chunks.has(number)) chunks.set(number, unpack(`chunk-${number}`));
    return chunks.get(number);
  }
  async function detailOf(i) {
    return (await chunk(Math.floor(i / index.chunk)))[i % index.chunk];
  }

  let index, rows, total;
  let haystack = null; // lower-case text of every trajectory, made at the first search
  async function makeHaystack() {
    const texts = new Array(total);
    for (let start = 0, n = 0; start < total; start += index.chunk, n++) {
      (await chunk(n)).forEach((detail, k) => {
        const i = start + k;
        const parts = [rows.uid[i], rows.question[i], ...detail.gold];
        for (const [, text] of detail.blocks) parts.push(text);
        for (const call of detail.calls) parts.push(call[0], call[1], call[7] ?? "");
        texts[i] = parts.join("\n").toLowerCase();
      });
    }
    return texts;
  }

  // -- filters ------------------------------------------------------------------------------
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
  const pressed = new Set();
  let query = "";
  let shown = []; // positions of the trajectories listed
  let current = -1; // the trajectory open, -1 for none

  async function applyFilters() {
    const wanted = query;
    if (wanted && !haystack) {
      byId("matches").textContent = "Reading all trajectories…";
      haystack = await makeHaystack();
      if (wanted !== query) return; // typed on meanwhile
    }
    const source = byId("source").selectedIndex - 1;
    const llm = byId("llm").selectedIndex - 1;
    const tests = [...pressed].map((name) => TESTS[name][1]);
    shown = [];
    for (let i = 0; i < total; i++) {
      if (source >= 0 && rows.source[i] !== source) continue;
      if (llm >= 0 && !rows.calls[i].includes(llm)) continue;
      if (wanted && !haystack[i].includes(wanted)) continue;
      if (tests.every((test) => test(i))) shown.push(i);
    }
    const key = ORDERS[byId("order").value];
    if (key) shown.sort((a, b) => key(a) - key(b) || a - b);
    const count = shown.length.toLocaleString("en");
    byId("matches").textContent =
      shown.length === total ? `${count} trajectories` : `${count} of ${total.toLocaleString("en")} trajectories`;
    byId("rows").style.height = `${shown.length * ROW}px`;
    byId("list").scrollTop = 0;
    reveal();
    drawRows();
  }

  function reset() {
    pressed.clear();
    query = byId("search").value = "";
    for (const id of ["source", "llm", "order"]) byId(id).selectedIndex = 0;
    drawChips();
    applyFilters();
  }

  function drawChips() {
    byId("chips").replaceChildren(
      ...Object.entries(TESTS).map(([name, [label, test]]) => {
        let count = 0;
        for (let i = 0; i < total; i++) if (test(i)) count++;
        const chip = make("button", "chip", label, make("small", "", count.toLocaleString("en")));
        chip.type = "button";
        chip.dataset.filter = name;
        chip.title = EXPLAINED[name] ?? "";
        chip.setAttribute("aria-pressed", pressed.has(name));
        chip.addEventListener("click", () => {
          const on = pressed.delete(name);
          if (!on) pressed.add(name);
          if (!on && name === "right") pressed.delete("wrong");
          if (!on && name === "wrong") pressed.delete("right");
          for (const other of byId("chips").children) {
            other.setAttribute("aria-pressed", pressed.has(other.dataset.filter));
          }
          applyFilters();
        });
        return chip;
      }),
    );
  }

  function fillSelect(id, all, names) {
    byId(id).replaceChildren(...[...(all ? [all] : []), ...names].map((name) => new Option(name)));
    byId(id).addEventListener("change", applyFilters);
  }

  // -- list ---------------------------------------------------------------------------------
  const verdictOf = (i) => (rows.format[i] < 0 ? "broken" : rows.em[i] >= 1 ? "right" : "wrong");
  const llmClass = (n) => (index.llms[n] === "unknown name" ? "llm-none" : `llm-${n % 10}`);
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const short = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));

  function drawRows() {
    const list = byId("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 6);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 6);
    const drawn = [];
    for (let at = first; at < last; at++) drawn.push(drawRow(at, shown[at]));
    byId("rows").replaceChildren(...drawn);
    if (!shown.length) byId("rows").append(make("p", "empty", "Nothing matches. Press r to reset."));
    const selected = byId(`row-${current}`);
    if (selected) list.setAttribute("aria-activedescendant", selected.id);
    else list.removeAttribute("aria-activedescendant");
  }

  function drawRow(at, i) {
    const asked = make("span", "asked");
    for (const llm of rows.calls[i]) asked.append(make("i", `swatch ${llmClass(llm)}`));
    asked.append(rows.calls[i].map((llm) => index.llms[llm]).join(", ") || "no call");
    const row = make(
      "div",
      `row ${verdictOf(i)}`,
      make("div", "row-question", rows.question[i]),
      make(
        "div",
        "row-facts",
        make("span", "", index.sources[rows.source[i]]),
        asked,
        make("span", "numbers", `cost ${number(rows.cost[i], 1)} · reward ${number(rows.reward[i], 2)}`),
      ),
    );
    row.id = `row-${i}`;
    row.style.top = `${at * ROW}px`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", i === current);
    row.setAttribute("aria-posinset", at + 1);
    row.setAttribute("aria-setsize", shown.length);
    row.addEventListener("click", () => open(i));
    return row;
  }

  /** Scrolls the list so that the open trajectory is in it. */
  function reveal() {
    const at = shown.indexOf(current);
    const list = byId("list");
    if (at < 0 || !list.clientHeight) return;
    const [top, bottom] = [at * ROW, (at + 1) * ROW - list.clientHeight];
    const far = top < list.scrollTop - 2 * ROW || bottom > list.scrollTop + 2 * ROW;
    if (far) list.scrollTop = (top + bottom) / 2;
    else list.scrollTop = Math.min(top, Math.max(bottom, list.scrollTop));
  }

  function move(step) {
    if (!shown.length) return;
    const at = shown.indexOf(current);
    const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + step));
    open(shown[next]);
  }

  // -- addresses ----------------------------------------------------------------------------
  const addressOf = (i) => `#t/${encodeURIComponent(rows.uid[i])}/${rows.sample[i]}`;

  function open(i) {
    history.replaceState(null, "", addressOf(i));
    show(i);
  }

  function find(address) {
    const [, uid, sample] = address.split("/");
    let wanted;
    try {
      wanted = decodeURIComponent(uid);
    } catch {
      return -1;
    }
    for (let i = 0; i < total; i++) {
      if (rows.uid[i] === wanted && String(rows.sample[i]) === sample) return i;
    }
    return -1;
  }

  function followAddress() {
    const hash = location.hash;
    const viewing = hash === "#trajectories" || hash.startsWith("#t/");
    byId("overview").hidden = viewing;
    byId("trajectories").hidden = !viewing;
    for (const [id, on] of [["tab-overview", !viewing], ["tab-trajectories", viewing]]) {
      if (on) byId(id).setAttribute("aria-current", "page");
      else byId(id).removeAttribute("aria-current");
    }
    if (!viewing) {
      if (hash.length > 1 && hash !== "#overview") byId(hash.slice(1))?.scrollIntoView();
      return;
    }
    if (!index) return;
    const i = hash.startsWith("#t/") ? find(hash) : -1;
    if (hash.startsWith("#t/") && i < 0) {
      byId("detail").replaceChildren(backButton(), make("p", "empty", "No trajectory of this evaluation has this address."));
      byId("browser").classList.add("reading");
      drawRows();
    } else if (i >= 0) show(i);
    else if (current < 0 && shown.length) show(shown[0], false);
    else drawRows();
  }

  // -- detail -------------------------------------------------------------------------------
  /** ``text`` with what the search found marked. */
  function marked(className, text) {
    const element = make("div", className);
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

  async function show(i, reading = true) {
    current = i;
    byId("browser").classList.toggle("reading", reading);
    reveal();
    drawRows();
    const detail = await detailOf(i);
    if (current !== i) return; // another was opened meanwhile
    const verdict = verdictOf(i);
    const page = byId("detail");
    page.className = verdict;
    const answers = make("dl", "answers");
    answers.append(
      make("dt", "", "Answer"),
      make("dd", "given", rows.answer[i] ?? "none given"),
      make("dt", "", "Accepted"),
      make("dd", "", detail.gold.join(" · ")),
    );
    const story = make("div", "", ...detail.blocks.map((block) => drawBlock(block, detail)));
    const side = make("aside", "side", drawReward(i, detail), drawSums(i, detail));
    page.replaceChildren(
      drawCrumbs(i, verdict),
      make("h2", "question", rows.question[i]),
      answers,
      make("div", "parts", story, side),
    );
    page.scrollTop = 0;
  }

  function button(label, action, id = "") {
    const element = make("button", "", label);
    element.type = "button";
    element.id = id;
    element.addEventListener("click", action);
    return element;
  }

  /** Only narrow windows show it: there the trajectory hides the list. */
  function backButton() {
    return button("‹ list", () => byId("browser").classList.remove("reading"), "back");
  }

  function drawCrumbs(i, verdict) {
    const words = { right: "✓ right", wrong: "✗ wrong", broken: "! format failure" };
    const link = make("a", "mono", rows.uid[i]);
    link.href = addressOf(i);
    link.title = "Address of this trajectory";
    const moves = make("span", "moves", button("↑", () => move(-1)), button("↓", () => move(1)));
    return make(
      "div",
      "crumbs",
      backButton(),
      make("span", "verdict", words[verdict]),
      make("span", "", index.sources[rows.source[i]]),
      link,
      make("span", "", `sample ${rows.sample[i]}`),
      make("span", "", index.statuses[rows.status[i]].replaceAll("_", " ")),
      moves,
    );
  }

  const KINDS = {
    think: "think",
    search: "search",
    observation: "information",
    answer: "answer",
    forged: "information written by the policy itself",
    loose: "outside of every tag",
  };

  function drawBlock([kind, text, call], detail) {
    const block = make("div", `block ${kind}`, make("div", "kind", KINDS[kind]), marked("text", text.trim()));
    if (kind === "search") {
      block.append(call === null ? make("div", "call", make("span", "failed", "not routed")) : drawCall(detail.calls[call]));
    }
    if (kind === "observation" && call !== null && detail.calls[call][7] !== null) {
      const reply = make("details", "", make("summary", "", "The reply as it came"), marked("text", detail.calls[call][7]));
      block.append(reply);
    }
    return block;
  }

  function drawCall([llm, outcome, prompt, completion, cost, dollars, latency, , neutralised, flags]) {
    const known = index.llms.indexOf(llm);
    const facts = [
      make("span", `llm-tag ${known < 0 ? "llm-none" : llmClass(known)}`, llm),
      make("span", outcome === "ok" ? "ok" : "failed", outcome.replaceAll("_", " ")),
      make("span", "", `${short(latency)} s`),
      make("span", "", `${prompt} → ${completion} tokens`),
      make("span", "", `cost ${short(cost)}`),
      make("span", "", `$${short(dollars)}`),
    ];
    if (neutralised) facts.push(make("span", "failed", `${neutralised} tags neutralised`));
    for (const flag of flags) facts.push(make("span", "", flag.replaceAll("_", " ")));
    return make("div", "call", ...facts);
  }

  function step(place, state, title, value, ...texts) {
    const paragraphs = texts.filter(Boolean).map((text) => make("p", "", text));
    const element = make("div", `step ${state}`, make("span", "value", value), make("b", "", title), ...paragraphs);
    element.dataset.number = place;
    return element;
  }

  /** The hierarchy of the reward, branch by branch: format, then outcome, then cost. */
  function drawReward(i, detail) {
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
    const name = (index.metric ?? "outcome").toUpperCase();
    box.append(
      step(1, broken ? "stop" : "pass", "Format", short(format),
        broken ? `Broken: ${detail.fault ?? "a format rule"}.` : "Every rule holds."),
      step(2, broken ? "skipped" : wrong ? "stop" : "pass", `Outcome: ${name}`, short(outcome),
        index.metric === "f1" ? `EM ${short(rows.em[i])}` : `F1 ${short(rows.f1[i])}`,
        broken ? "Does not count." : wrong ? "Wrong: nothing is earned." : ""),
      step(3, broken || wrong || alpha === 0 ? "skipped" : "pass", "Cost reward c", short(c),
        allFailed ? "Every call failed: no credit." : `Cost ${short(rows.cost[i])}; cheap is 1, dear is 0.`,
        broken || wrong ? "Does not count without a right answer in the right format."
          : alpha === 0 ? "Weighs nothing: the cost coefficient is 0." : ""),
      joined(i, broken, wrong, outcome, c, alpha),
    );
    if (!detail.follows) {
      box.append(make("p", "bad", "The recorded reward differs from this formula: it was computed with other coefficients."));
    }
    return box;
  }

  function joined(i, broken, wrong, outcome, c, alpha) {
    const state = broken || wrong ? "stop" : "final";
    const reward = short(rows.reward[i]);
    if (broken) return step(4, state, "Reward", reward, "The format penalty alone.");
    if (wrong) return step(4, state, "Reward", reward, "0 without a right answer, whatever the cost.");
    if (alpha === null) {
      return step(4, state, "Reward", reward, "(1 − α) · outcome + α · c; the evaluation does not say its α.");
    }
    const element = step(4, state, "Reward", reward);
    const inferred = index.inferred ? " (inferred from the rewards)" : "";
    element.append(
      make("p", "", `(1 − α) · outcome + α · c, α = ${alpha}${inferred}`),
      make("p", "formula", `${short(1 - alpha)} · ${short(outcome)} + ${alpha} · ${short(c)} = ${reward}`),
    );
    return element;
  }

  function drawSums(i, detail) {
    const sum = (k) => detail.calls.reduce((all, call) => all + (call[k] ?? 0), 0);
    const pairs = [
      ["calls", `${detail.calls.length}${rows.failed[i] ? `, ${rows.failed[i]} failed` : ""}`],
      ["tokens in → out", `${sum(2)} → ${sum(3)}`],
      ["cost (tokens × $/1M)", short(rows.cost[i])],
      ["dollars", `$${short(rows.dollars[i])}`],
      ["time in calls", `${short(sum(6))} s`],
    ];
    const sums = make("div", "sums", ...pairs.flatMap((pair) => pair.map((text) => make("span", "", text))));
    return make("div", "", make("h3", "", "In all"), sums);
  }

  // -- keys and start -----------------------------------------------------------------------
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("trajectories").hidden || !index) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape") {
      event.target.blur?.();
      byId("browser").classList.remove("reading");
      return;
    }
    if (typing) return;
    const page = Math.max(1, Math.floor(byId("list").clientHeight / ROW) - 1);
    const inDetail = byId("detail").contains(event.target);
    const steps = { j: 1, k: -1, PageDown: page, PageUp: -page, Home: -total, End: total };
    if (!inDetail) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1 });
    if (event.key === "/") byId("search").focus();
    else if (event.key === "r") reset();
    else if (event.key in steps) move(steps[event.key]);
    else return;
    event.preventDefault();
  }

  function toggleTheme() {
    const root = document.documentElement;
    const dark = getComputedStyle(root).colorScheme === "dark" ||
      (root.style.colorScheme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
    root.style.colorScheme = dark ? "light" : "dark";
  }

  async function start() {
    byId("theme").addEventListener("click", toggleTheme);
    addEventListener("hashchange", followAddress);
    followAddress();
    if (!("DecompressionStream" in globalThis)) {
      byId("matches").textContent = "This browser is too old for the viewer (it lacks DecompressionStream).";
      return;
    }
    index = await unpack("index");
    rows = index.rows;
    total = rows.uid.length;
    fillSelect("source", "all datasets", index.sources);
    fillSelect("llm", "any LLM", index.llms.map((name) => `asked ${name}`));
    fillSelect("order", null, Object.keys(ORDERS));
    drawChips();
    await applyFilters();
    followAddress();
    byId("list").addEventListener("scroll", drawRows, { passive: true });
    addEventListener("resize", drawRows);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    let timer;
    byId("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        query = byId("search").value.trim().toLowerCase();
        applyFilters();
      }, 150);
    });
    addEventListener("keydown", onKey);
    // Milliseconds from the navigation to a usable page; benchmarks and tests read it.
    requestAnimationFrame(() => {
      document.documentElement.dataset.ready = Math.round(performance.now());
    });
  }
  start();
})();

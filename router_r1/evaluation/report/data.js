// The evaluation's trajectories: base64 of deflated JSON in the page, see trajectories.py.
import { byId } from "../../web/dom.js";

export let index; // names, rule of the reward, and the rows
export let rows; // an array a column, one entry a trajectory
export let total;

const chunks = new Map();

async function unpack(id) {
  const text = atob(byId(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** Reads the index; the details are read when they are needed. */
export async function load() {
  index = await unpack("index");
  rows = index.rows;
  total = rows.uid.length;
}

function chunk(place) {
  if (!chunks.has(place)) chunks.set(place, unpack(`chunk-${place}`));
  return chunks.get(place);
}

export async function detailOf(i) {
  return (await chunk(Math.floor(i / index.chunk)))[i % index.chunk];
}

/** A call as trajectory.js takes it, with the reply where that is not the observation. */
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

/** Lower-case text of every trajectory. */
export async function allTexts() {
  const texts = new Array(total);
  for (let start = 0, n = 0; start < total; start += index.chunk, n++) {
    (await chunk(n)).forEach((detail, k) => {
      const i = start + k;
      const parts = [rows.uid[i], rows.question[i], ...detail.gold];
      for (const [, text] of detail.blocks) parts.push(text);
      for (const call of detail.calls.map(callOf)) parts.push(call.llm, call.outcome, call.reply ?? "");
      texts[i] = parts.join("\n").toLowerCase();
    });
  }
  return texts;
}

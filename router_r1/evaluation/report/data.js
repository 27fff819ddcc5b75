// The trajectories of an evaluation, or of a run's validations: base64 of deflated JSON in the page, see trajectories.py.
import { byId } from "../../web/dom.js";
import { callOf } from "../../web/trajectory.js";

export let index; // names, rule of the reward, and the rows
export let rows; // an array a column, one entry a trajectory
export let questions; // the position of each question's newest trajectory
export let steps; // of a run's validations, ascending; none for an evaluation

const histories = new Map(); // positions of a question's trajectories, under its newest

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
  steps = [...new Set(rows.step ?? [])];
  const found = new Map();
  for (let i = 0; i < rows.uid.length; i++) {
    const key = rows.step ? `${rows.sample[i]} ${rows.uid[i]}` : i;
    if (found.has(key)) found.get(key).push(i);
    else found.set(key, [i]);
  }
  for (const history of found.values()) histories.set(history.at(-1), history);
  questions = [...histories.keys()];
}

/** The question's trajectories in the order of their steps, by the position of its newest. */
export const historyOf = (i) => histories.get(i);

function chunk(place) {
  if (!chunks.has(place)) chunks.set(place, unpack(`chunk-${place}`));
  return chunks.get(place);
}

export async function detailOf(i) {
  return (await chunk(Math.floor(i / index.chunk)))[i % index.chunk];
}

/** Lower-case text of every trajectory. */
export async function allTexts() {
  const texts = new Array(rows.uid.length);
  for (let start = 0, n = 0; start < texts.length; start += index.chunk, n++) {
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

// The server's own API, as any client sees it; paths are relative, so a proxy may add a prefix.

/** What went wrong, for a person; status is the HTTP status, 0 if the server was not reached. */
export class APIFault extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The card of the model that is served. */
export async function servedModel(key) {
  const response = await request("v1/models", key, {});
  return (await response.json()).data[0];
}

/**
 * Asks one question; costCoe is what cost counts beside a right answer, null leaves that to the server.
 *
 * onPart is called with each part of the trajectory as it comes: a string that the policy wrote, or
 * an event of the stream (docs/serving.md) with the text it brought. Returns what the stream ends
 * with: answer, router and usage. Aborting the signal makes the server cancel the trajectory.
 */
export async function ask(question, costCoe, model, key, signal, onPart) {
  const body = JSON.stringify({
    model,
    messages: [{ role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true },
    ...(costCoe === null ? {} : { cost_coe: costCoe }),
  });
  const headers = { "Content-Type": "application/json" };
  const response = await request("v1/chat/completions", key, { method: "POST", headers, body, signal });
  const end = { answer: "", router: null, usage: null };
  for await (const chunk of events(response)) {
    if (chunk.error) throw new APIFault(chunk.error.message, response.status);
    const delta = chunk.choices[0]?.delta ?? {};
    if (chunk.router?.event) onPart({ ...chunk.router, text: delta.reasoning_content ?? "" });
    else if (delta.reasoning_content) onPart(delta.reasoning_content);
    end.answer += delta.content ?? "";
    if (chunk.router?.status) end.router = chunk.router;
    if (chunk.usage) end.usage = chunk.usage;
  }
  return end;
}

async function request(path, key, options) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new APIFault("The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new APIFault(body?.error?.message ?? `The server answered with status ${response.status}.`, response.status);
}

/** The objects of an event stream; throws if it breaks off before its end. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      return { done: true };
    });
    if (done) throw new APIFault("The connection broke off before the answer was complete.");
    held += value;
    const messages = held.split(/\r?\n\r?\n/);
    held = messages.pop();
    for (const message of messages) {
      if (!message.startsWith("data:")) continue; // a comment that keeps proxies from hanging up
      const data = message.slice("data:".length).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

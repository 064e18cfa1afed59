// The unmodified `openai` package for Node.js: tools, schemas, logprobs, embeddings, responses,
// errors, leaving, broken streams, a crowd. Usage: node openai_full.mjs GATEWAY_URL UPSTREAM_URL KEY.
// One line a check; exits 1 at the first failure. The gateway waits only seconds for the next piece of
// a stream of the model "impatient".
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [gateway, upstream, apiKey] = process.argv.slice(2);
const open = (key) => new OpenAI({ baseURL: `${gateway}/v1`, apiKey: key, maxRetries: 0, timeout: 60_000 });
const client = open(apiKey);
const messages = [{ role: "user", content: "What is 3 + 4?" }];
const ask = { model: "scripted", messages };
const seven = "the answer is seven";

function check(name, truth) {
  console.log(`${truth ? "ok    " : "FAILED"} ${name}`);
  if (!truth) process.exit(1);
}

async function refused(kind, how) {
  try {
    await how();
  } catch (error) {
    if (!(error instanceof kind)) check(`${kind.name}, but it is ${error}`, false);
    return error;
  }
  check(`${kind.name}, but nothing was raised`, false);
}

async function gathered(stream, take) {
  let text = "";
  for await (const chunk of stream) text += (chunk.choices[0] && take(chunk.choices[0].delta)) ?? "";
  return text;
}

const integer = { type: "integer" };
const parameters = { type: "object", properties: { a: integer, b: integer } };
const tools = [{ type: "function", function: { name: "add", parameters } }];
const [called] = (await client.chat.completions.create({ ...ask, tools })).choices;
const both = '{"a":7,"b":7}';
const same = (text) => JSON.stringify(JSON.parse(text)) === both;
check("tools: the call comes whole", same(called.message.tool_calls[0].function.arguments));
check("tools: the finish reason", called.finish_reason === "tool_calls");
const result = { role: "tool", tool_call_id: called.message.tool_calls[0].id, content: "14" };
const after = await client.chat.completions.create({ model: "scripted", tools, messages: [...messages, called.message, result] });
check("tools: the result goes back", after.choices[0].message.content === seven);
const live = await client.chat.completions.create({ ...ask, tools, stream: true });
check("tools: streamed in pieces", same(await gathered(live, (delta) => delta.tool_calls?.[0].function.arguments)));

const Sum = z.object({ total: z.number().int(), words: z.string() });
const parsed = await client.chat.completions.parse({ ...ask, response_format: zodResponseFormat(Sum, "sum") });
check("schema: parsed", parsed.choices[0].message.parsed.total === 7 && parsed.choices[0].message.parsed.words === "seven");
const scored = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 1 });
check("logprobs: one entry a token", scored.choices[0].logprobs.content.length === 4);
check("n: three choices", (await client.chat.completions.create({ ...ask, n: 3 })).choices.length === 3);

const embedded = await client.embeddings.create({ model: "scripted", input: ["one", "two"] });
check("embeddings: as the endpoint made them", embedded.data.length === 2 && String(embedded.data[0].embedding) === "0.25,-0.5,1");
const answer = await client.responses.create({ model: "scripted", input: "What is 3 + 4?" });
check("responses: the text", answer.output_text === seven && answer.usage.total_tokens === 9);
let [text, last] = ["", ""];
for await (const event of await client.responses.create({ model: "scripted", input: "What is 3 + 4?", stream: true })) {
  if (event.type === "response.output_text.delta") text += event.delta;
  last = event.type;
}
check("responses: streamed", text === seven && last === "response.completed");

const wrong = await refused(OpenAI.AuthenticationError, () => open("sk-longrun-nobody").chat.completions.create(ask));
check("errors: a wrong key", wrong.code === "invalid_api_key" && !wrong.message.includes("nobody"));
const unknown = await refused(OpenAI.NotFoundError, () => client.chat.completions.create({ ...ask, model: "no-such" }));
check("errors: an unknown model", unknown.code === "model_not_found");
const typed = await refused(OpenAI.BadRequestError, () => client.chat.completions.create({ ...ask, messages: 17 }));
check("errors: a wrong type names the field", typed.message.includes("messages"));
const failing = { ...ask, messages: [{ role: "user", content: "fail" }] };
const failed = await refused(OpenAI.InternalServerError, () => client.chat.completions.create(failing));
check("errors: the endpoint's failure keeps its status", failed.status === 500);

const slow = await client.chat.completions.create({ ...ask, messages: [{ role: "user", content: "slowly" }], stream: true });
for await (const _ of slow) break;
const left = async () => (await (await fetch(`${upstream.replace(/\/v1$/, "")}/left`)).json()).left;
for (const until = Date.now() + 60_000; (await left()) < 1; ) {
  if (Date.now() > until) check("leaving: the endpoint is let go of", false);
  await new Promise((done) => setTimeout(done, 100));
}
check("leaving: the endpoint is let go of", true);

for (const [prompt, code] of Object.entries({ "break off": "answer_cut", stall: "timeout", garbled: "upstream_error" })) {
  const of = { model: "impatient", stream: true };
  let [chat, response] = ["", ""];
  const ofChat = await refused(OpenAI.APIError, async () => {
    const chunks = await client.chat.completions.create({ ...of, messages: [{ role: "user", content: prompt }] });
    for await (const chunk of chunks) chat += chunk.choices[0].delta.content;
  });
  check(`${prompt}: after its two words the stream throws APIError, ${code}`, ofChat.code === code && chat === "the answer ");
  const ofResponse = await refused(OpenAI.APIError, async () => {
    for await (const event of await client.responses.create({ ...of, input: prompt })) response += event.delta ?? "";
  });
  check(`responses: ${prompt}: the same`, ofResponse.code === code && response === "the answer ");
}

const one = async (number) =>
  number % 2
    ? (await client.chat.completions.create(ask)).choices[0].message.content
    : gathered(await client.chat.completions.create({ ...ask, stream: true }), (delta) => delta.content);
const crowd = await Promise.all(Array.from({ length: 50 }, (_, number) => one(number)));
check("fifty at once", crowd.every((text) => text === seven));

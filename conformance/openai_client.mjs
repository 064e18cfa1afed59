// The unmodified `openai` package for Node.js against a Longrun gateway.
// Usage: node openai_client.mjs BASE_URL MODEL. One line a check; exits 1 at the first failure.
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "not-needed", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is 3 + 4?" }];

function check(name, truth) {
  if (!truth) {
    console.log(`FAILED ${name}`);
    process.exit(1);
  }
  console.log(`ok     ${name}`);
}

const { data: answer, response } = await client.chat.completions
  .create({ model, messages, temperature: 0 })
  .withResponse();
check("chat: an answer", answer.choices[0].message.content.length > 0);
check("chat: finish reason", ["stop", "length"].includes(answer.choices[0].finish_reason));
check("chat: header and body name one call", response.headers.get("x-longrun-call") === answer.longrun.call);

let text = "";
let finishes = 0;
let usage = null;
const stream = await client.chat.completions.create({
  model, messages, temperature: 0, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  finishes += chunk.choices[0]?.finish_reason ? 1 : 0;
  usage = chunk.usage ?? usage;
}
check("stream: the same text as without", text === answer.choices[0].message.content);
check("stream: one finish reason", finishes === 1);
check("stream: usage", usage.total_tokens === usage.prompt_tokens + usage.completion_tokens);

const scored = await client.chat.completions.create({
  model, messages, temperature: 0, logprobs: true, top_logprobs: 2, max_tokens: 3,
});
check("logprobs: an entry a token", scored.choices[0].logprobs.content.length === scored.usage.completion_tokens);
check("logprobs: two alternatives", scored.choices[0].logprobs.content.every((t) => t.top_logprobs.length === 2));

try {
  await client.chat.completions.create({ model: "no-such-model", messages });
  check("error: unknown model is refused", false);
} catch (error) {
  check("error: unknown model is NotFoundError", error instanceof OpenAI.NotFoundError);
  check("error: code", error.code === "model_not_found");
}
try {
  await client.chat.completions.create({ model, messages: 17 });
  check("error: wrong type is refused", false);
} catch (error) {
  check("error: wrong type is BadRequestError", error instanceof OpenAI.BadRequestError);
  check("error: names the field", error.message.includes("messages"));
}

const leaving = await client.chat.completions.create({ model, messages, stream: true });
for await (const _ of leaving) {
  leaving.controller.abort();
  break;
}
check("cancel: the gateway still answers", (await client.models.list()).data.some((m) => m.id === model));

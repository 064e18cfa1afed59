// The unmodified Vercel `ai` package with `@ai-sdk/openai-compatible` against a Longrun gateway.
// Usage: node ai.mjs GATEWAY_URL UPSTREAM_URL KEY. One line a check; exits 1 at the first failure.
// The gateway waits only seconds for the next piece of a stream of the model "impatient".
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [gateway, upstream, apiKey] = process.argv.slice(2);
const provider = (key) =>
  createOpenAICompatible({ name: "longrun", baseURL: `${gateway}/v1`, apiKey: key, supportsStructuredOutputs: true });
const model = provider(apiKey)("scripted");
const prompt = "What is 3 + 4?";

function check(name, truth) {
  console.log(`${truth ? "ok    " : "FAILED"} ${name}`);
  if (!truth) process.exit(1);
}

const plain = await generateText({ model, prompt, maxRetries: 0 });
check("chat: text", plain.text === "the answer is seven");
check("chat: finish reason", plain.finishReason === "stop");
check("chat: usage", plain.usage.inputTokens === 5 && plain.usage.outputTokens === 4);
check("chat: the call is named", plain.response.headers["x-longrun-call"].length === 32);

let text = "";
const stream = streamText({ model, prompt, maxRetries: 0 });
for await (const piece of stream.textStream) text += piece;
check("stream: text", text === "the answer is seven");
check("stream: finish reason", (await stream.finishReason) === "stop");

const add = tool({
  description: "adds",
  inputSchema: z.object({ a: z.number().int(), b: z.number().int() }),
  execute: async ({ a, b }) => a + b,
});
const steps = await generateText({ model, prompt, tools: { add }, stopWhen: stepCountIs(2), maxRetries: 0 });
check("tools: called, run and answered", steps.text === "the answer is seven" && steps.steps.length === 2);
check("tools: the result", steps.steps[0].toolResults[0].output === 14);
const live = streamText({ model, prompt, tools: { add }, stopWhen: stepCountIs(2), maxRetries: 0 });
await live.consumeStream();
check("tools: streamed", (await live.text) === "the answer is seven" && (await live.steps).length === 2);

const schema = z.object({ total: z.number().int(), words: z.string() });
const made = await generateText({ model, prompt, output: Output.object({ schema }), maxRetries: 0 });
check("schema: an object", made.output.total === 7 && made.output.words === "seven");

const { embedding } = await embed({ model: provider(apiKey).embeddingModel("scripted"), value: "one", maxRetries: 0 });
check("embeddings: as the endpoint made them", String(embedding) === "0.25,-0.5,1");

const refused = async (how) => {
  try {
    await how();
    return null;
  } catch (error) {
    return APICallError.isInstance(error) ? error : null;
  }
};
const wrong = await refused(() => generateText({ model: provider("sk-x")("scripted"), prompt, maxRetries: 0 }));
check("errors: a wrong key is 401 and no reason to retry", wrong?.statusCode === 401 && !wrong.isRetryable);
const unknown = await refused(() => generateText({ model: provider(apiKey)("no-such"), prompt, maxRetries: 0 }));
check("errors: an unknown model says which there are", unknown?.statusCode === 404 && unknown.message.includes("scripted"));

const leaving = new AbortController();
const slow = streamText({ model, prompt: "slowly", abortSignal: leaving.signal, maxRetries: 0, onError: () => {} });
for await (const _ of slow.textStream) {
  leaving.abort();
  break;
}
const left = async () => (await (await fetch(`${upstream.replace(/\/v1$/, "")}/left`)).json()).left;
for (const until = Date.now() + 60_000; (await left()) < 1; ) {
  if (Date.now() > until) check("leaving: the endpoint is let go of", false);
  await new Promise((done) => setTimeout(done, 100));
}
check("leaving: the endpoint is let go of", true);

// The package throws no error event: the text ends, and the error is told beside it.
for (const [prompt, code] of Object.entries({ "break off": "answer_cut", stall: "timeout", garbled: "upstream_error" })) {
  let [told, part, words] = [null, null, ""];
  const onError = ({ error }) => (told = error);
  const broken = streamText({ model: provider(apiKey)("impatient"), prompt, maxRetries: 0, onError });
  for await (const piece of broken.stream) {
    if (piece.type === "text-delta") words += piece.text;
    if (piece.type === "error") part = piece.error;
  }
  check(`${prompt}: after its two words comes an error part, ${code}`, part?.code === code && words === "the answer ");
  check(`${prompt}: onError is told the same`, told?.code === code && told.message === part.message);
  check(`${prompt}: the finish reason is "error"`, (await broken.finishReason) === "error");
}

const crowd = await Promise.all(Array.from({ length: 50 }, () => generateText({ model, prompt, maxRetries: 0 })));
check("fifty at once", crowd.every((one) => one.text === "the answer is seven"));

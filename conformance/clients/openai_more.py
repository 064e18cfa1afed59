"""The unmodified `openai` package for Python: embeddings and responses.

Usage: openai_more.py GATEWAY_URL KEY. One line a check; exits 1 at the first failure. The gateway
waits only seconds for the next piece of a stream of the model "impatient".
"""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key=sys.argv[2], max_retries=0, timeout=60)


def check(name, truth):
    print(f"{'ok    ' if truth else 'FAILED'} {name}", flush=True)
    if not truth:
        sys.exit(1)


both = client.embeddings.create(model="scripted", input=["one", "two"])
check("embeddings: one for each", [e.index for e in both.data] == [0, 1])
check("embeddings: as the endpoint made them", both.data[0].embedding == [0.25, -0.5, 1.0])
plain = client.embeddings.create(model="scripted", input="one", encoding_format="float")
check("embeddings: as numbers", plain.data[0].embedding == [0.25, -0.5, 1.0])
answer = client.responses.create(model="scripted", input="What is 3 + 4?")
check("responses: the text", answer.output_text == "the answer is seven")
check("responses: usage", answer.usage.total_tokens == 9)
events = list(client.responses.create(model="scripted", input="What is 3 + 4?", stream=True))
text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
check("responses: streamed", text == "the answer is seven" and events[-1].type == "response.completed")
for prompt, code in {"break off": "answer_cut", "stall": "timeout", "garbled": "upstream_error"}.items():
    text, raised = "", None
    try:
        for event in client.responses.create(model="impatient", input=prompt, stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
    except openai.APIError as error:
        raised = error.code
    check(f"responses: {prompt}: after its two words the stream raises APIError, {code}",
          raised == code and text == "the answer ")

"""What users of ollama's package do.        python with_ollama.py URL LOCKED SMALL"""

import asyncio
import importlib.metadata
import sys

import ollama

URL, LOCKED, _ = sys.argv[1:]
TALK = [{"role": "user", "content": "Tell me a story about a fox."}]
client = ollama.Client(URL)
how = {"model": "model", "options": {"seed": 3, "num_predict": 16, "temperature": 0.7}}

listed = client.list().models
assert [m.model for m in listed] == ["model", "talker"] and listed[0].size > 1e6 and listed[0].details.family == "llama"
assert listed[0].modified_at.year > 2000 and listed[0].digest
shown = client.show("model")
assert shown.modelinfo["general.architecture"] == "llama" and "completion" in shown.capabilities and shown.template

one = client.chat(messages=TALK, **how)
assert one.message.role == "assistant" and one.message.content and one.done and one.done_reason in ("stop", "length")
assert 0 < one.eval_count <= 16 and one.prompt_eval_count > 5 and one.total_duration > 0 and one.eval_duration > 0
parts = list(client.chat(messages=TALK, stream=True, **how))
assert "".join(p.message.content for p in parts) == one.message.content and parts[-1].done and len(parts) > 5
message = ollama.Message(role="user", content=TALK[0]["content"])
assert client.chat(messages=[message], **how).message.content == one.message.content

made = client.generate(prompt="Once upon a time", raw=True, **how)
assert made.response and made.done
parts = list(client.generate(prompt="Once upon a time", raw=True, stream=True, **how))
assert "".join(p.response for p in parts) == made.response and parts[-1].eval_count == made.eval_count
stopped = client.generate("model", "Once", raw=True, options={"stop": ["."], "seed": 1})
assert stopped.done_reason == "stop" and "." not in stopped.response
assert client.generate("talker", "the fox", system="be kind", options={"num_predict": 5}).response is not None

several = client.embed("model", ["a fox", "a hen"])
assert len(several.embeddings) == 2 and list(several.embeddings[0]) == list(client.embed("model", "a fox").embeddings[0])
assert len(client.embeddings("model", "a fox").embedding) == len(several.embeddings[0])
assert "model" in [m.model for m in client.ps().models]

for call, status in (
    (lambda: client.chat("another", TALK), 404),
    (lambda: client.chat("model", TALK, options={"temperature": -1}), 400),
    (lambda: ollama.Client(LOCKED).list(), 401),
):
    try:
        call()
    except ollama.ResponseError as e:
        assert e.status_code == status and e.error, e
    else:
        raise AssertionError(status)
assert ollama.Client(LOCKED, headers={"Authorization": "Bearer a-key-of-tests"}).list().models


async def at_once():
    many = ollama.AsyncClient(URL)
    found = await asyncio.gather(*(many.chat(messages=TALK, **how) for _ in range(20)))
    assert {f.message.content for f in found} == {one.message.content}
    assert "".join([p.message.content async for p in await many.chat(messages=TALK, stream=True, **how)]) == one.message.content


asyncio.run(at_once())
print(f"ollama {importlib.metadata.version('ollama')}: list, show, chat, generate, streams, embed, ps, errors")

"""What users of LiteLLM do.        python with_litellm.py URL LOCKED SMALL"""

import asyncio
import importlib.metadata
import sys

import litellm

URL, LOCKED, _ = sys.argv[1:]
TALK = [{"role": "user", "content": "Tell me a story about a fox."}]
DOORS = {
    "openai/model": {"api_base": f"{URL}/v1", "api_key": "none"},
    "ollama_chat/model": {"api_base": URL},
    "anthropic/model": {"api_base": URL, "api_key": "none"},
}
litellm.suppress_debug_info = True
how = dict(messages=TALK, max_tokens=16, temperature=0.7)


def said(model, **more):
    return litellm.completion(model=model, **DOORS[model], **{**how, **more}, seed=3, allowed_openai_params=["seed"])


texts = {}
for model in DOORS:
    one = said(model)
    texts[model] = one.choices[0].message.content
    assert one.usage.completion_tokens <= 16 and one.choices[0].finish_reason in ("stop", "length"), one
    parts = list(said(model, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == texts[model] and len(parts) > 5, model
    assert "." not in said(model, max_tokens=200, stop=["."]).choices[0].message.content
assert len(set(texts.values())) == 1 and all(texts.values()), texts  # one seed, one text, whichever door


async def at_once(model):
    asked = (litellm.acompletion(model=model, **DOORS[model], **how, seed=3) for _ in range(10))
    assert {one.choices[0].message.content for one in await asyncio.gather(*asked)} == {texts[model]}


for model in ("openai/model", "ollama_chat/model"):
    asyncio.run(at_once(model))
made = litellm.text_completion(model="text-completion-openai/model", prompt="Once", max_tokens=5, **DOORS["openai/model"])
assert made.choices[0].text
vectors = litellm.embedding(model="openai/model", input=["a fox"], encoding_format="float", **DOORS["openai/model"])
assert len(vectors.data[0]["embedding"]) > 10
for error, more in (
    (litellm.AuthenticationError, {"api_base": f"{LOCKED}/v1"}),
    (litellm.BadRequestError, {"temperature": -1}),
    (litellm.NotFoundError, {"model": "openai/another"}),
):
    try:
        litellm.completion(**{"model": "openai/model", **DOORS["openai/model"], **how, **more}, num_retries=0)
    except error:
        pass
    else:
        raise AssertionError(f"no {error}")
print(f"litellm {importlib.metadata.version('litellm')}: {', '.join(DOORS)}: completion, streams, at once, embedding, errors")

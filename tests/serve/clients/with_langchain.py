"""What users of LangChain's ChatOpenAI do.        python with_langchain.py URL LOCKED SMALL"""

import asyncio
import importlib.metadata
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

URL, LOCKED, _ = sys.argv[1:]
TALE = "Tell me a story about a fox."
how = dict(api_key="none", base_url=f"{URL}/v1", model="model")
chat = ChatOpenAI(**how, max_tokens=16, seed=3, temperature=0.7)

one = chat.invoke(TALE)
assert one.content and one.usage_metadata["output_tokens"] <= 16
assert one.response_metadata["finish_reason"] in ("stop", "length")
for content in (TALE, [{"type": "text", "text": TALE}]):
    assert chat.invoke([HumanMessage(content)]).content == one.content
parts = list(chat.stream(TALE, stream_usage=True))
assert "".join(p.content for p in parts) == one.content and len(parts) > 5
assert sum((p.usage_metadata or {}).get("output_tokens", 0) for p in parts) == one.usage_metadata["output_tokens"]
found = chat.batch([TALE, "Where is the hen?"] * 4)
assert [f.content for f in found[::2]] == [one.content] * 4 and len({f.content for f in found[1::2]}) == 1
assert "." not in chat.bind(max_tokens=200, stop=["."]).invoke(TALE).content
told = chat.bind(logprobs=True, top_logprobs=2).invoke(TALE).response_metadata["logprobs"]["content"]
assert len(told) == one.usage_metadata["output_tokens"]
chain = ChatPromptTemplate.from_messages([("human", "Tell me a story about a {who}.")]) | chat
assert chain.invoke({"who": "fox"}).content == one.content
system = ChatOpenAI(**how | {"model": "talker"}, max_tokens=5).invoke([SystemMessage("Be kind."), HumanMessage(TALE)])
assert system.response_metadata["model_name"] == "talker"
answered = ChatOpenAI(**how, max_tokens=16, temperature=0.7, use_responses_api=True, extra_body={"seed": 3})
assert answered.invoke(TALE).text == one.content
assert "".join(p.text for p in answered.stream(TALE)) == one.content
made = OpenAI(**how, max_tokens=12, seed=5)
assert made.invoke("Once upon a time") == "".join(made.stream("Once upon a time")) != ""
vectors = OpenAIEmbeddings(**how, check_embedding_ctx_length=False).embed_documents(["a fox", "a hen"])
assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 10


async def at_once():
    found = await asyncio.gather(*(chat.ainvoke(TALE) for _ in range(10)))
    assert {f.content for f in found} == {one.content}
    assert "".join([p.content async for p in chat.astream(TALE)]) == one.content


asyncio.run(at_once())
try:
    ChatOpenAI(**how | {"base_url": f"{LOCKED}/v1"}, max_retries=0).invoke(TALE)
except Exception as e:
    assert getattr(e, "status_code", 0) == 401, e
else:
    raise AssertionError("no error")
print(f"langchain-openai {importlib.metadata.version('langchain-openai')}: invoke, stream, batch, chain, responses, embeddings")

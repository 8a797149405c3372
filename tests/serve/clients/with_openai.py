"""What users of the openai package do.        python with_openai.py URL LOCKED SMALL"""

import asyncio
import json
import sys

import openai

URL, LOCKED, SMALL = sys.argv[1:]
TALK = [{"role": "user", "content": "Tell me a story about a fox."}]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)


def fails(error, call, *args, **kwargs):
    """The error of that kind that a call raises."""
    try:
        call(*args, **kwargs)
    except openai.OpenAIError as e:
        assert type(e) is error, repr(e)
        return e
    raise AssertionError(f"no {error}")


def completions():
    make = client.completions.create
    how = dict(model="model", prompt="Once upon a time", max_tokens=12, seed=5)
    one = make(**how)
    assert one.object == "text_completion" and one.usage.completion_tokens == 12 and one.choices[0].finish_reason == "length"
    assert make(**how).choices[0].text == one.choices[0].text != make(**how | {"seed": 6}).choices[0].text
    several = make(**how, n=3)
    assert [c.index for c in several.choices] == [0, 1, 2] and several.choices[0].text == one.choices[0].text
    assert several.usage.completion_tokens == 36
    best = make(**how, n=2, best_of=4)
    assert len(best.choices) == 2 and {c.text for c in best.choices} <= {c.text for c in make(**how, n=4).choices}
    prompts = make(**how | {"prompt": ["Once", "The fox"]}, n=2)
    assert [c.index for c in prompts.choices] == [0, 1, 2, 3]
    told = make(**how | {"max_tokens": 1}, echo=True, logprobs=2).choices[0]
    lists = told.logprobs
    assert told.text.startswith("Once upon a time") and "".join(lists.tokens).endswith(told.text)
    assert lists.token_logprobs[0] is None and all(x <= 0 for x in lists.token_logprobs[1:])
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    assert all(len(top) >= 2 for top in lists.top_logprobs[1:])
    assert make(model="model", prompt=[5, 6, 7], max_tokens=2).usage.prompt_tokens == 3
    chunks = list(make(**how, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == one.choices[0].text
    assert chunks[-1].choices == [] and chunks[-1].usage == one.usage.model_copy(update=dict(chunks[-1].usage))
    assert len([c for c in chunks if c.choices and c.choices[0].text]) > 5
    stopped = make(**how | {"max_tokens": 100, "stop": [".", "!"]}).choices[0]
    assert stopped.finish_reason == "stop" and not {".", "!"} & set(stopped.text)
    best = make(**how | {"temperature": 0, "max_tokens": 60}).choices[0].text
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repeat_penalty": 1.5}}):
        assert make(**how | {"temperature": 0, "max_tokens": 60} | penalty).choices[0].text != best, penalty
    assert make(**how | {"temperature": 0, "max_tokens": 60}, frequency_penalty=0, presence_penalty=0).choices[0].text == best
    (token,) = {c.logprobs.tokens[0]: c for c in make(**how | {"max_tokens": 1}, logit_bias={"500": 100}, logprobs=0).choices}
    assert make(**how | {"max_tokens": 9}, logit_bias={"500": 100}, logprobs=0).choices[0].logprobs.tokens == [token] * 9


def chats():
    make = client.chat.completions.create
    how = dict(model="model", messages=TALK, max_completion_tokens=16, seed=3)
    one = make(**how)
    choice = one.choices[0]
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
    parts = [{"role": "user", "content": [{"type": "text", "text": TALK[0]["content"]}]}]
    assert make(**how | {"messages": parts}).choices[0].message.content == choice.message.content
    told = make(**how, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(told) == one.usage.completion_tokens and all(len(t.top_logprobs) >= 3 and t.logprob <= 0 for t in told)
    assert bytes(sum((t.bytes for t in told), [])).decode() == choice.message.content
    assert len(make(**how, n=4).choices) == 4
    assert "." not in make(**how | {"max_completion_tokens": 200}, stop=".").choices[0].message.content
    chunks = list(make(**how, stream=True, stream_options={"include_usage": True}, logprobs=True))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].usage.completion_tokens == one.usage.completion_tokens
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == choice.message.content
    ends = how | {"max_completion_tokens": 200, "stop": "."}  # what ends by its length has no final completion there
    with client.chat.completions.stream(**ends) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and final.choices[0].message.content == make(**ends).choices[0].message.content
    with make(**how, stream=True) as stream:
        next(iter(stream))  # and leaves
    raw = client.chat.completions.with_raw_response.create(**how)
    assert raw.headers["x-request-id"] == raw.parse()._request_id


def roles(url, model):
    """A model that knows who a system is takes a developer for one."""
    make = openai.OpenAI(base_url=f"{url}/v1", api_key="none").chat.completions.create
    how = dict(model=model, seed=1, max_tokens=9)
    said = [make(**how, messages=[{"role": role, "content": "Be kind."}, *TALK]) for role in ("system", "developer")]
    assert said[0].choices[0].message.content == said[1].choices[0].message.content


def forms():
    """An answer of a form, and calls of tools, which the model is held to."""
    make, how = client.chat.completions.create, dict(model="model", messages=TALK, seed=3, max_tokens=200)
    schema = {
        "type": "object",
        "properties": {"fox": {"enum": ["red", "grey"]}},
        "required": ["fox"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "fox", "schema": schema, "strict": True}}
    assert json.loads(make(**how, response_format=form).choices[0].message.content)["fox"] in ("red", "grey")
    tool = {"type": "function", "function": {"name": "see", "parameters": schema}}
    (call,) = make(**how, tools=[tool], tool_choice="required", parallel_tool_calls=False).choices[0].message.tool_calls
    assert call.function.name == "see" and json.loads(call.function.arguments)["fox"] in ("red", "grey")


def responses():
    make = client.responses.create
    how = dict(model="model", input="Tell me a story about a fox.", max_output_tokens=16, extra_body={"seed": 3})
    one = make(**how)
    assert one.output_text and one.status in ("completed", "incomplete") and one.usage.output_tokens <= 16
    chat = client.chat.completions.create(model="model", messages=TALK, max_tokens=16, seed=3)
    assert one.output_text == chat.choices[0].message.content
    events = list(make(**how, stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == f"response.{one.status}"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == one.output_text
    assert events[-1].response.output_text == one.output_text
    ends = how | {"max_output_tokens": 200, "extra_body": {"seed": 3, "stop": "."}}  # as above
    with client.responses.stream(**ends) as stream:
        assert any(event.type == "response.output_text.delta" for event in stream)
        assert stream.get_final_response().output_text == make(**ends).output_text
    turns = [{"role": "user", "content": [{"type": "input_text", "text": "Tell me a story about a fox."}]}]
    assert make(**how | {"input": turns}).output_text == one.output_text


def embeddings():
    make = client.embeddings.create
    floats = make(model="model", input=["a fox", "a hen"], encoding_format="float")
    coded = make(model="model", input=["a fox", "a hen"])  # this client asks for base64
    for a, b in zip(floats.data, coded.data, strict=True):
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding, strict=True)) < 1e-6
        assert abs(sum(x * x for x in a.embedding) - 1) < 1e-4
    text = make(model="model", input="a fox", encoding_format="base64").data[0].embedding
    assert isinstance(text, str) and floats.usage.prompt_tokens > 3


def errors():
    chat = client.chat.completions.create
    e = fails(openai.BadRequestError, chat, model="model", messages=TALK, temperature=-1)
    assert e.param == "temperature" and e.type == "invalid_request_error" and e.status_code == 400 and e.request_id
    assert fails(openai.BadRequestError, chat, model="model", messages=TALK, frequency_penalty=500).param == "frequency_penalty"
    assert fails(openai.BadRequestError, chat, model="model", messages=[]).param == "messages"
    e = fails(openai.BadRequestError, client.completions.create, model="model", prompt="fox " * 900)
    assert e.code == "context_length_exceeded"
    e = fails(openai.NotFoundError, chat, model="another", messages=TALK)
    assert e.param == "model" and e.code == "model_not_found"
    fails(openai.NotFoundError, client.models.retrieve, "another")
    locked = openai.OpenAI(base_url=f"{LOCKED}/v1", api_key="a wrong key", max_retries=0)
    assert fails(openai.AuthenticationError, locked.models.list).code == "invalid_api_key"
    assert openai.OpenAI(base_url=f"{LOCKED}/v1", api_key="a-key-of-tests").models.list().data


async def at_once():
    """The asynchronous client: the texts are those of the other; too many at once are refused, and served when asked again."""
    ask = lambda c, seed, n=12, **more: c.completions.create(model="model", prompt="Once", max_tokens=n, seed=seed, **more)
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as many:
        found = await asyncio.gather(*(ask(many, seed) for seed in range(20)))
        assert [f.choices[0].text for f in found] == [ask(client, seed).choices[0].text for seed in range(20)]
        text = [c.choices[0].text async for c in await ask(many, 1, stream=True)]
        assert "".join(text) == found[1].choices[0].text
    async with openai.AsyncOpenAI(base_url=f"{SMALL}/v1", api_key="none", max_retries=0) as many:
        tasks = (ask(many, 1, 400, extra_body={"ignore_eos": True}) for _ in range(40))
        found = await asyncio.gather(*tasks, return_exceptions=True)
        busy = [f for f in found if type(f) is openai.RateLimitError]
        assert busy and len(busy) < 24 and all(type(f) is openai.RateLimitError or f.choices for f in found), found
        assert busy[0].code == "queue_full" and int(busy[0].response.headers["retry-after"]) >= 1
    async with openai.AsyncOpenAI(base_url=f"{SMALL}/v1", api_key="none", max_retries=20) as many:
        assert len(await asyncio.gather(*(ask(many, 1, 100) for _ in range(40)))) == 40
    return len(busy)


assert [m.id for m in client.models.list()] == ["model", "talker"] and client.models.retrieve("model").id == "model"
completions()
chats()
roles(URL, "talker")
forms()
responses()
embeddings()
errors()
busy = asyncio.run(at_once())
print(
    f"openai {openai.__version__}: models, completions, chats, forms, responses, embeddings, errors; {busy} of 40 told to wait"
)

"""What users of the anthropic package do.        python with_anthropic.py URL LOCKED SMALL"""

import asyncio
import sys

import anthropic

URL, LOCKED, SMALL = sys.argv[1:]
TALK = [{"role": "user", "content": "Tell me a story about a fox."}]
client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)


def fails(error, call, *args, **kwargs):
    """The error of that kind that a call raises."""
    try:
        call(*args, **kwargs)
    except anthropic.AnthropicError as e:
        assert type(e) is error, repr(e)
        return e
    raise AssertionError(f"no {error}")


def messages():
    make, how = client.messages.create, dict(model="model", messages=TALK, max_tokens=16, extra_body={"seed": 3})
    one = make(**how)
    text = one.content[0].text
    assert one.role == "assistant" and text and one.usage.output_tokens <= 16 and one.stop_reason in ("end_turn", "max_tokens")
    parts = [{"role": "user", "content": [{"type": "text", "text": TALK[0]["content"]}]}]
    assert make(**how | {"messages": parts}).content[0].text == text
    assert client.messages.count_tokens(model="model", messages=TALK).input_tokens == one.usage.input_tokens
    stopped = make(**how | {"max_tokens": 200}, stop_sequences=["."])
    assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "." and "." not in stopped.content[0].text
    cooler = make(**how | {"extra_body": {"temperature": 0.5, "top_p": 0.9, "top_k": 10}}, metadata={"user_id": "me"})
    assert cooler.content[0].text
    with client.messages.stream(**how) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert final.content[0].text == text and final.usage.output_tokens == one.usage.output_tokens
    kinds = [event.type for event in make(**how, stream=True)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    with make(**how, stream=True) as stream:
        next(iter(stream))  # and leaves
    kind = client.messages.create(model="talker", system="Be kind.", messages=TALK, max_tokens=5)
    plain = client.messages.create(model="talker", messages=TALK, max_tokens=5)
    assert kind.usage.input_tokens > plain.usage.input_tokens
    blocks = [{"type": "text", "text": "Be kind."}]
    assert client.messages.count_tokens(model="talker", system=blocks, messages=TALK).input_tokens == kind.usage.input_tokens


def errors():
    make = client.messages.create
    e = fails(anthropic.BadRequestError, make, model="model", messages=TALK, max_tokens=5, extra_body={"temperature": -1})
    assert e.body["error"]["type"] == "invalid_request_error" and "temperature" in e.body["error"]["message"] and e.request_id
    fails(anthropic.BadRequestError, make, model="model", messages=[], max_tokens=5)
    e = fails(anthropic.NotFoundError, make, model="another", messages=TALK, max_tokens=5)
    assert e.body["error"]["type"] == "not_found_error"
    locked = anthropic.Anthropic(base_url=LOCKED, api_key="a wrong key", max_retries=0)
    e = fails(anthropic.AuthenticationError, locked.messages.create, model="model", messages=TALK, max_tokens=5)
    assert e.body["error"]["type"] == "authentication_error"
    for how in ({"api_key": "a-key-of-tests"}, {"auth_token": "a-key-of-tests"}):
        known = anthropic.Anthropic(base_url=LOCKED, **how)
        assert known.messages.create(model="model", messages=TALK, max_tokens=5).content[0].text


async def at_once():
    ask = lambda c, n: c.messages.create(model="model", messages=TALK, max_tokens=n, extra_body={"ignore_eos": True, "seed": 1})
    async with anthropic.AsyncAnthropic(base_url=SMALL, api_key="none", max_retries=0) as many:
        found = await asyncio.gather(*(ask(many, 400) for _ in range(40)), return_exceptions=True)
        busy = [f for f in found if type(f) is anthropic.RateLimitError]
        assert busy and all(type(f) is anthropic.RateLimitError or f.content for f in found), found
        assert busy[0].body["error"]["type"] == "rate_limit_error"
    async with anthropic.AsyncAnthropic(base_url=URL, api_key="none") as many:
        found = await asyncio.gather(*(ask(many, 12) for _ in range(20)))
        assert len({f.content[0].text for f in found}) == 1
        async with many.messages.stream(model="model", messages=TALK, max_tokens=12, extra_body={"seed": 1}) as stream:
            assert [text async for text in stream.text_stream]
    return len(busy)


assert [m.id for m in client.models.list()] == ["model", "talker"]
messages()
errors()
busy = asyncio.run(at_once())
print(f"anthropic {anthropic.__version__}: messages, streams, count_tokens, errors; {busy} of 40 told to wait")

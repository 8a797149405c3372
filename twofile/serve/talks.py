"""What requests ask for, in one form, whichever API they came by."""

import re
from dataclasses import dataclass

from ..errors import ModelError
from ..front.text import INVISIBLE
from ..sampler import RULES
from ..structure import response_schema
from .asked import LIMITS, deadline, limit
from .exchange import LONG
from .refusals import Refused
from .tools import Reader, Tools, split, text_of, told

HOW = (*(rule.name for rule in RULES), "ignore_eos", "logit_bias", "regex", "grammar")


@dataclass
class Talk:
    """A conversation that an answer is asked to. messages: in OpenAI's form. tools: Tools, or None.
    schema: what the answer must be, or None; field: which says so. how: options of Writers.
    memory: whether it has the server's Memory, None = if there is one."""

    messages: list
    how: dict
    tools: Tools | None = None
    schema: object = None
    n: int = 1
    seed: int | None = None
    logprobs: int | None = None
    field: str = "response_format"
    memory: bool | None = None


def options(body, settings, limits=LIMITS):
    """The options of Writers that a body asks for; limits: the names of the limit of tokens."""
    how = {name: body[name] for name in HOW if name in body}
    tokens = limit(body, settings, limits)
    how |= {"max_tokens": tokens, "deadline": deadline(body, settings)}
    return how | ({"stop": body["stop"]} if "stop" in body else {})


def schema_of(form, name):
    """The schema that OpenAI's response_format, or what is like it, asks for; None for text. name:
    of the field. Raises Refused."""
    if form and form.get("type") == "json_schema" and "json_schema" not in form:
        form = {"type": "json_schema", "json_schema": form}  # as in responses
    try:
        schema = response_schema(form)
    except ModelError as e:
        raise Refused(400, str(e).replace("response_format", name, 1), name) from None
    if schema is not None and not isinstance(schema, dict):
        raise Refused(400, f"{name}: its schema is no object, expected one; change it", name)
    return schema


async def talk_ids(exchange, talk):
    """Open the model -> the ids of a Talk, up to where the answer begins. Raises Refused,
    ModelError."""
    need_template(exchange.entry)
    await exchange.open()
    messages = told(talk.messages, talk.tools, exchange.entry.tells)
    messages = await remembered(exchange, talk, messages)
    size = sum(len(str(m.get("content"))) for m in messages)
    encode = exchange.model.encode_chat
    return await exchange.ask(lambda: encode(messages), max(size, LONG * (len(messages) > 50)))


async def remembered(exchange, talk, messages):
    """Messages, the last with what the server's memory has for the user's last question; its
    sources become the exchange's. Raises Refused, ModelError."""
    memory = exchange.state.settings.memory
    if talk.memory and memory is None:
        found = "memory is true, and there is none"
        raise Refused(400, f"{found}; expected a server with --memory; leave it out", "memory")
    if memory is None or talk.memory is False:
        return messages
    asked = [m.get("content") for m in talk.messages if m.get("role") == "user"]
    tools = talk.messages[-1].get("role") != "user"  # the last message is what they gave
    about = text_of(asked[-1]) if tools and asked else None
    page = lambda: memory.page(exchange.model, messages, talk.how.get("max_tokens"), about)
    paged = await exchange.ask(page, LONG + 1)
    exchange.beside = {"sources": list(map(counted, paged.sources))}
    return paged.into(messages)


def counted(source):
    """A source, with how many invisible characters its text has, if any."""
    unseen = sum(1 for _ in INVISIBLE.finditer(source["text"]))
    return {**source, "invisible": unseen} if unseen else source


async def begin(exchange, talk):
    """Open the model, and ask for places for the texts of a Talk. Raises Refused, ModelError."""
    ids = await talk_ids(exchange, talk)
    how, exchange.tools = talk.how | {"logprobs": talk.logprobs}, talk.tools
    own = next((name for name in ("regex", "grammar") if name in how), None)
    if own and (talk.tools or talk.schema is not None):
        found = f"{own} beside {'tools' if talk.tools else 'a schema'}"
        raise Refused(400, f"{found}, expected one form of the text; leave one out", own)
    if talk.tools:
        how["grammar"] = talk.tools.grammar(talk.schema)
    elif talk.schema is not None:
        how["schema"] = talk.schema
    try:
        await exchange.write([ids], talk.n, talk.seed, **how)
    except ModelError as e:
        what, _, why = str(e).partition(": ")
        if own is None and what in ("grammar", "schema"):
            name = "tools" if talk.tools else talk.field
            why = re.sub(r" \d+ \| .*(?=; expected)", "", why)  # of our own grammar
            raise Refused(400, f"{name}: {why}", name) from None
        raise
    exchange.begin()


async def spoken(exchange):
    """Yield (number, Chunk, [what it says: texts, calls]) as they come."""
    names = [tool["name"] for tool in exchange.tools.tools] if exchange.tools else ()
    readers = [Reader(names) for _ in exchange.writers]
    async for number, chunk in exchange.chunks():
        said = [chunk.text] if chunk.text else []
        if exchange.tools:
            said = readers[number].push(chunk.text, chunk.finish_reason is not None)
        yield number, chunk, said


def answered(exchange, w):
    """What a finished Writer says -> (its text, None if there is none; its calls)."""
    return split(w.written, exchange.tools) if exchange.tools else (w.written, [])


def need_template(entry):
    """Raises Refused for a model that only goes on with texts."""
    if not entry.chats:
        found = f"model {entry.name}: exported without a chat template"
        raise Refused(400, f"{found}, expected one to chat; ask /v1/completions", "model")

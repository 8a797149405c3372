"""What requests ask for, in one form, whichever API they came by."""

from dataclasses import dataclass

from ..calls import Tools, reader, tools_asked
from ..errors import ModelError
from ..front.text import INVISIBLE
from ..sampler import RULES
from ..structure import response_schema
from .asked import LIMITS, deadline, limit
from .exchange import LONG
from .refusals import Refused

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
    messages, encode = await remembered(exchange, talk), exchange.model.encode_chat
    size = sum(len(str(m.get("content"))) for m in messages if isinstance(m, dict))
    size += sum(len(str(tool)) for tool in talk.tools.tools) if talk.tools else 0
    size = max(size, LONG * (len(messages) > 50))
    return await exchange.ask(lambda: encode(messages, talk.tools), size)


async def remembered(exchange, talk):
    """The messages of a Talk, the user's last with what the server's memory has for it; its sources
    become the exchange's. Raises Refused, ModelError."""
    memory, messages = exchange.state.settings.memory, talk.messages
    if talk.memory and memory is None:
        found = "memory is true, and there is none"
        raise Refused(400, f"{found}; expected a server with --memory; leave it out", "memory")
    if memory is None or talk.memory is False:
        return messages
    most = talk.how.get("max_tokens")
    page = lambda: memory.page(exchange.model, messages, most, talk.tools)
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
    how["tools"] = talk.tools
    if talk.schema is not None:
        own = next((name for name in ("regex", "grammar") if name in how), None)
        if own:
            found = f"{own} beside a schema"
            raise Refused(400, f"{found}, expected one form of the text; leave one out", own)
        how["schema"] = talk.schema
    try:
        await exchange.write([ids], talk.n, talk.seed, **how)
    except ModelError as e:
        if str(e).startswith("schema: "):
            message = str(e).replace("schema", talk.field, 1)
            raise Refused(400, message, talk.field) from None
        raise
    exchange.begin()


async def spoken(exchange):
    """Yield (number, Chunk, [what it says: texts, calls]) as they come."""
    readers = [reader(w.calls, w.tools) for w in exchange.writers if w.tools]
    async for number, chunk in exchange.chunks():
        said = [chunk.text] if chunk.text else []
        if exchange.tools:
            said = readers[number].push(chunk.text, chunk.finish_reason is not None)
        yield number, chunk, said


def tools_of(given, choice, several=True):
    """The Tools of a request in OpenAI's form, or None. Raises Refused."""
    try:
        return tools_asked(given, choice, several)
    except ModelError as e:
        name = "tool_choice" if str(e).startswith("tool_choice") else "tools"
        raise Refused(400, str(e), name) from None


def need_template(entry):
    """Raises Refused for a model that only goes on with texts."""
    if not entry.chats:
        found = f"model {entry.name}: exported without a chat template"
        raise Refused(400, f"{found}, expected one to chat; ask /v1/completions", "model")

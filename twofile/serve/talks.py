"""What requests ask for, in one form, whichever API they came by."""

from ..sampler import RULES
from .asked import deadline, limit
from .exchange import LONG
from .refusals import Refused

HOW = (*(rule.name for rule in RULES), "ignore_eos", "logit_bias")


def options(body, settings, limits=None):
    """The options of Writers that a body asks for; limits: the names of the limit of tokens."""
    how = {name: body[name] for name in HOW if name in body}
    tokens = limit(body, settings, *([limits] if limits else []))
    how |= {"max_tokens": tokens, "deadline": deadline(body, settings)}
    return how | ({"stop": body["stop"]} if "stop" in body else {})


async def talk_ids(exchange, messages):
    """The ids of a conversation, up to where the answer begins. Raises ModelError."""
    size = sum(len(str(m.get("content"))) for m in messages if isinstance(m, dict))
    encode = exchange.model.encode_chat
    return await exchange.ask(lambda: encode(messages), max(size, LONG * (len(messages) > 50)))


def need_template(entry):
    """Raises Refused for a model that only goes on with texts."""
    if not entry.chats:
        found = f"model {entry.name}: exported without a chat template"
        raise Refused(400, f"{found}, expected one to chat; ask /v1/completions", "model")

"""The fields of requests, as JSON Schemas: checks, documentation."""

from ..sampler import RULES

KINDS = {float: "number", int: "integer"}
MANY = 2048  # prompts in a request, and inputs


def field(wants, kind=None, **more):
    """The schema of a field. wants: what it must be, in words."""
    return {"description": wants} | ({"type": kind} if kind else {}) | more


def text(wants="a text"):
    return field(wants, "string")


def number(wants, least, most):
    return field(wants, "number", minimum=least, maximum=most)


def whole(wants, least, most):
    return field(wants, "integer", minimum=least, maximum=most)


def flag(wants="true or false"):
    return field(wants, "boolean")


def items(wants, of, least=0, most=MANY):
    return field(wants, "array", items=of, minItems=least, maxItems=most)


def either(wants, *kinds):
    return field(wants, anyOf=list(kinds))


def thing(wants="an object", properties=None, needs=()):
    return field(wants, "object", properties=properties or {}, required=list(needs))


def rule_field(rule):
    """The schema of a rule of sampling."""
    wants = f"a {'whole ' * (rule.kind is int)}number from {rule.least} to {rule.most}"
    make = whole if rule.kind is int else number
    return make(wants, rule.least, rule.most)


LIMIT = whole("a whole number of new tokens, or -1 for until the end", -1, 1 << 31)
IDS = items("a list of token ids", whole("a token id", 0, (1 << 31) - 1), 1, 1 << 20)
STOPS = items("up to 64 texts of up to 1,000 characters", text() | {"maxLength": 1000}, most=64)
STOP = either("a text, or a list of up to 64 of up to 1,000 characters", STOPS["items"], STOPS)
SEED = whole("a whole number, or -1 for a random one", -(1 << 63), (1 << 64) - 1)
MODEL = text("the name of a model, as GET /v1/models lists them; without it, the first")
MEMORY = flag("whether the answer has the server's --memory, which is usual where there is one")
TALKING = {"model": MODEL, "memory": MEMORY}
SAMPLING = {rule.name: rule_field(rule) for rule in RULES}
SAMPLING |= {"seed": SEED, "stop": STOP, "ignore_eos": flag()}
SAMPLING["deadline"] = number("seconds after which the text ends as it is", 0, 1e9)
BIAS = field("up to 4,096 token ids, each with a number from -100 to 100", "object")
BIAS["maxProperties"] = 4096
TOOLS = {
    "tools": items("a list of up to 128 functions", thing(), most=128),
    "tool_choice": either(
        "auto, none, required, or a function",
        field("a word", enum=["auto", "none", "required"]),
        thing(),
    ),
    "parallel_tool_calls": flag(),
}
FORMAT = thing("an object with type text, json_object or json_schema")
FORMS = {"regex": text("a regular expression"), "grammar": text("a Lark or GBNF grammar")}
STREAM_OPTIONS = thing("an object", {"include_usage": flag()})
COMMON = {
    "model": MODEL,
    **SAMPLING,
    "max_tokens": LIMIT,
    "stream": flag(),
    "stream_options": STREAM_OPTIONS,
    "n": whole("how many texts, from 1 to 16", 1, 16),
    "logit_bias": BIAS,
    "response_format": FORMAT,
    **FORMS,
}
COMPLETION = thing(
    "an object with a prompt",
    {
        **COMMON,
        "prompt": either(
            "a text, token ids, or a list of such",
            text(),
            IDS,
            items("a list of texts", text(), 1),
            items("a list of lists of token ids", IDS, 1),
        ),
        "n_predict": LIMIT,
        "best_of": whole("how many texts to choose from, from 1 to 64", 1, 64),
        "echo": flag(),
        "logprobs": either("a whole number from 0 to 100", whole("a number", 0, 100), flag()),
    },
    ["prompt"],
)
PART = thing("a part of type text", {"type": text(), "text": text()})
CONTENT = either("a text, or a list of parts", text(), items("a list of parts", PART))
NOTHING = {"type": "null"}
PARTS = items("a list of parts", thing())
SAID = {
    "role": text(),
    "content": either("a text, or a list of parts", text(), PARTS, NOTHING),
    "tool_calls": either("a list of calls", items("calls", thing()), NOTHING),
}
MESSAGES = items(
    "a list of messages: perhaps a system, then user and assistant in turn, the user last",
    thing("an object with role and content", SAID, ["role"]),
    1,
)
WHO = field("user or assistant; the field system is the system's", enum=["user", "assistant"])
TALKED = {"role": WHO, "content": either("a text, or a list of parts", text(), PARTS)}
THEIRS = items(
    "a list of messages, the last a user's",
    thing("an object with role and content", TALKED, ["role", "content"]),
    1,
)
CHAT = thing(
    "an object with messages",
    {
        **COMMON,
        **TALKING,
        "messages": MESSAGES,
        "max_completion_tokens": LIMIT,
        "n_predict": LIMIT,
        "logprobs": flag(),
        "top_logprobs": whole("a whole number from 0 to 100", 0, 100),
        **TOOLS,
    },
    ["messages"],
)
TEXT = thing("an object with a format", {"format": FORMAT})
RESPONSES = thing(
    "an object with an input",
    {
        **TALKING,
        "input": either("a text, or a list of items", text(), items("items", thing(), 1)),
        "instructions": text(),
        "max_output_tokens": whole("a whole number of new tokens", 1, 1 << 31),
        "stream": flag(),
        "text": TEXT,
        **SAMPLING,
        "top_logprobs": whole("a whole number from 0 to 100", 0, 100),
        **TOOLS,
    },
    ["input"],
)
MESSAGE = thing(
    "an object with messages and max_tokens",
    {
        **TALKING,
        "messages": THEIRS,
        "max_tokens": whole("a whole number of new tokens, 1 or more", 1, 1 << 31),
        "system": CONTENT,
        "stop_sequences": STOPS,
        "stream": flag(),
        "tools": TOOLS["tools"],
        "tool_choice": thing("an object with a type"),
        **{name: SAMPLING[name] for name in SAMPLING if name != "stop"},
    },
    ["messages", "max_tokens"],
)
COUNT = thing(
    "an object with messages",
    {**TALKING, "messages": THEIRS, "system": CONTENT}
    | {"tools": TOOLS["tools"], "tool_choice": thing("an object with a type")},
    ["messages"],
)
INPUT = either(
    "a text, token ids, or a list of such",
    text(),
    IDS,
    items("a list of texts", text(), 1),
    items("a list of lists of token ids", IDS, 1),
)
EMBEDDINGS = thing(
    "an object with an input",
    {
        "model": MODEL,
        "input": INPUT,
        "encoding_format": field("float or base64", enum=["float", "base64"]),
        "dimensions": whole("the model's own number of dimensions", 1, 1 << 20),
        "pooling": field("mean or last", enum=["mean", "last"]),
        "normalize": flag(),
    },
    ["input"],
)
TOKENIZE = thing(
    "an object with content",
    {
        "model": MODEL,
        "content": text(),
        "prompt": text(),
        "add_special": flag("whether the begin token comes first"),
        "add_special_tokens": flag("whether the begin token comes first"),
        "with_pieces": flag("whether the tokens' texts are told too"),
    },
)
DETOKENIZE = thing(
    "an object with tokens",
    {"model": MODEL, "tokens": IDS | {"minItems": 0}},
    ["tokens"],
)
# ollama's
OPTIONS = thing(
    "an object of options", {**SAMPLING, "num_predict": LIMIT | {"minimum": -2}, "num_ctx": LIMIT}
)
OLLAMA = {
    **TALKING,
    "stream": flag(),
    "options": OPTIONS,
    "keep_alive": field("seconds, or a text such as 5m", type=["number", "string"]),
    "format": either("json, or a JSON schema", field("json", enum=["json", ""]), thing()),
    "think": field("false, or a text", type=["boolean", "string"]),
}
OLLAMA_CHAT = thing(
    "an object with messages",
    {**OLLAMA, "messages": MESSAGES | {"minItems": 0}, "tools": TOOLS["tools"]},
    ["model"],
)
OLLAMA_GENERATE = thing(
    "an object with a prompt",
    {
        **OLLAMA,
        "prompt": text(),
        "system": text(),
        "raw": flag(),
    },
    ["model"],
)
OLLAMA_SHOW = thing("an object with a model", {"model": text(), "name": text(), "verbose": flag()})
OLLAMA_EMBED = thing(
    "an object with an input",
    {"model": text(), "input": either("a text, or a list of texts", text(), items("texts", text()))}
    | {"truncate": flag(), "options": OPTIONS, "keep_alive": OLLAMA["keep_alive"]},
    ["model", "input"],
)
OLLAMA_EMBEDDINGS = thing(
    "an object with a prompt",
    {"model": text(), "prompt": text(), "options": OPTIONS, "keep_alive": OLLAMA["keep_alive"]},
    ["model", "prompt"],
)


def published(schema):
    """A schema as the document tells it: a null is what is left out."""
    given = schema.get("properties")
    if not given:
        return schema
    needs = schema.get("required", ())
    words = lambda s: {"description": s["description"]} if "description" in s else {}
    open_to_null = lambda s: words(s) | {"anyOf": [published(s), {"type": "null"}]}
    told = {name: published(s) if name in needs else open_to_null(s) for name, s in given.items()}
    return {**schema, "properties": told}

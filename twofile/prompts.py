"""Texts, ids and conversations that a model is given."""

import operator
from collections.abc import Mapping

from .callform import call_form
from .calls import tools_given
from .calltext import as_texts
from .errors import ModelError, WrongType, WrongValue, set_by, shown
from .options import text_asked, yes_or_no
from .plain import is_list, plain_json
from .tokenizer.toolform import has_calls


def whole_ids(ids, name="prompt", wants="text or token ids; give a str, or a list"):
    """Token ids from any iterable of whole numbers -> list of int. Raises ModelError, by name."""
    try:
        if not isinstance(ids, (str, bytes, bytearray, memoryview, Mapping, set, frozenset)):
            ids = list(ids)
            if bool not in set(map(type, ids)):
                return [operator.index(i) for i in ids]
    except TypeError:
        pass
    raise WrongType(f"{name} is {shown(ids)}, expected {wants}")


def plain_messages(messages):
    """A conversation as OpenAI's requests may have it -> [{"role", "content"}], with "tool_calls"
    or "tool_call_id" where there are any: a content that is a list of parts becomes its texts, a
    line each; a developer is who a system was, a function a tool. Raises ModelError for what no
    template could say."""
    if not is_list(messages):
        raise WrongType(f"messages is {shown(messages)}, expected a list of objects; give such")
    plain = []
    for m in messages:
        if not isinstance(m, Mapping):
            raise WrongType(f"messages: {shown(m)}, expected an object with role and content")
        role, calls = m.get("role"), m.get("tool_calls")
        role = OLD_ROLES.get(role, role) if isinstance(role, str) else role
        for name in ("function_call", "audio", *["name"] * (role != "tool")):
            if m.get(name):
                found = f"messages: {name} is {shown(m[name])}"
                raise WrongValue(f"{found}, which cannot be said here; expected text; leave it out")
        if calls and (role != "assistant" or not is_list(calls)):
            found = f"messages: tool_calls is {shown(calls)}"
            raise WrongValue(f"{found}, expected a list of an assistant's calls; leave it out")
        content = m.get("content")
        if content is None and role == "assistant":  # it called tools, or has refused
            content = m.get("refusal") or ""
        if is_list(content):
            content = "\n".join(map(part_text, content))
        elif not isinstance(content, str):
            found = f"messages: content is {shown(content)}"
            raise WrongType(f"{found}, expected a text, or a list of such; give one")
        row = {"role": role, "content": content}
        row |= {"tool_calls": calls_said(calls)} if calls else {}
        about = {key: m.get(key) for key in ("tool_call_id", "name")} if role == "tool" else {}
        plain.append(row | about)
    return plain


def calls_said(calls):
    """An assistant's calls as dicts; what is none, call_of() tells."""
    try:
        return plain_json([*calls])
    except (TypeError, ValueError, RecursionError):
        return [*calls]


OLD_ROLES = {"developer": "system", "function": "tool"}  # roles by other names


def part_text(part):
    """The text of a part of a message's content."""
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if kind != "text" or not isinstance(part.get("text"), str):
        found = f"messages: content has a part of type {shown(kind)}"
        raise WrongValue(f"{found}, expected text alone; leave it out")
    return part["text"]


def paged_in(memory, model, messages, answer, tools):
    """A conversation with what a Memory gives the user's last message -> (messages, {"sources":
    […]}), and without one as it is, with {}. answer: tokens that are kept free for it, or None.
    tools: Tools that it is told of, or None. Raises ModelError."""
    if memory is None:
        return messages, {}
    if not hasattr(memory, "page"):
        found = f"memory is {shown(memory)}"
        raise WrongType(f"{found}, expected a Memory; give Memory(FOLDER)")
    paged = memory.page(model, messages, answer, tools)
    return paged.into(messages), {"sources": paged.sources}


class Prompts:
    """Texts, ids and conversations for an Engine's model. tokenizer: None for ids alone.

    Everything here raises ModelError for what does not fit, or needs a tokenizer that is not there.
    """

    def __init__(self, engine, tokenizer):
        self.engine, self.tokenizer = engine, tokenizer
        # ids that can be written: a model may have more rows than its tokenizer has tokens
        n_rows = engine.file.config.vocab_size
        self.n_vocab = tokenizer.n_vocab if tokenizer else n_rows
        self.calls = call_form(tokenizer) if tokenizer else None

    def need_tokenizer(self):
        """The tokenizer, or a ModelError."""
        if self.tokenizer is None:
            raise ModelError(
                f"{self.engine.name}: exported without a tokenizer; "
                f"expected one to read text; give ids, or {set_by('tokenizer', 'FILE')}"
            )
        return self.tokenizer

    def short(self, text):
        """text, if it could fit into the context: what its length alone rules out is refused before
        it costs time or room."""
        longest, n_ctx = self.need_tokenizer().longest, self.engine.n_ctx
        text_asked("text", text)
        least = -(-len(text) // longest) if longest else 1
        if least > n_ctx:
            found = f"prompt: {len(text):,} characters, {least:,} tokens or more"
            raise WrongValue(f"{found}, expected 1 to {n_ctx}; {self.engine.shorter}")
        return text

    def tokenize(self, text, add_bos=True):
        """text -> ids, of any length."""
        add_bos = yes_or_no("add_bos", add_bos, True)
        return self.need_tokenizer().encode(text_asked("text", text), add_bos)

    def conversation(self, messages, tools=None, begun=""):
        """[{"role", "content"}] -> ids up to where the assistant begins, or behind the text that it
        has begun with; as OpenAI's, see plain_messages(). tools: Tools, or a list, or None."""
        messages, t, tools = plain_messages(messages), self.need_tokenizer(), tools_given(tools)
        text_asked("begun", begun)
        for m in messages:
            if isinstance(m["content"], str):
                self.short(m["content"])
        told = tools.tools if tools else ()
        for tool in told:
            self.short(f"{tool['description']}{tool['parameters']}")
        if t.chat is not None and t.tools is None and (told or any(map(has_calls, messages))):
            whole = all(isinstance(m["content"], str) for m in messages)
            messages = as_texts(messages, told, t.chat.get("system")) if whole else messages
            told = ()
        return t.encode_chat(messages, told, begun)

    def prompt(self, given):
        """str or ids -> ids, at least one and no more than the context has room for."""
        return self.check(self.tokenize(self.short(given)) if isinstance(given, str) else given)

    def check(self, ids):
        """ids as a list of int, which fit into the context."""
        ids, n_ctx = self.known(ids), self.engine.n_ctx
        if not 0 < len(ids) <= n_ctx:
            raise self.wrong(f"{len(ids)} tokens", self.engine.shorter if ids else "give some")
        return ids

    def ids(self, given):
        """str or ids -> ids, of any length."""
        return self.tokenize(given) if isinstance(given, str) else self.known(given)

    def known(self, ids):
        """ids as a list of int, of any length, which the model has rows for."""
        ids, n_rows = whole_ids(ids), self.engine.file.config.vocab_size
        for i in ids:
            if not 0 <= i < n_rows:
                raise self.wrong(f"id {i}", "give such ids")
        return ids

    def wrong(self, found, todo):
        wants = f"expected 1 to {self.engine.n_ctx} ids below {self.engine.file.config.vocab_size}"
        return WrongValue(f"prompt: {found}, {wants}; {todo}")

    def begin(self):
        """The token that stands before a text's first: begin, or else end."""
        t = self.need_tokenizer()
        found = t.bos if t.bos is not None else t.eos
        if found is None:
            what = f"{self.engine.name}: no begin and no end token"
            raise WrongValue(f"{what}, expected one; give a context")
        return found

"""Log-probabilities of tokens, as OpenAI's objects tell them."""

import itertools

from .sampler import chances_of, likeliest, log_softmax
from .tokenizer.tokenizer import TextStream


def label(tokenizer, token):
    """The text of a token; of one that is no text by itself, such as a part of a character, its
    bytes, as OpenAI's programs write them: bytes:\\xf0\\x9f. Tokens of other bytes have another
    label. tokenizer: None for the number."""
    if tokenizer is None:
        return str(token)
    raw = token_bytes(tokenizer, token)
    text = raw.decode("utf-8", "replace")
    if text.encode() == raw and not (text.startswith("bytes:") and "\\x" in text):
        return text
    plain = lambda byte: 32 <= byte < 127 and byte != ord("\\")
    return "bytes:" + "".join(chr(byte) if plain(byte) else f"\\x{byte:02x}" for byte in raw)


def token_bytes(tokenizer, token):
    """The bytes of a token; of a control token, of its name."""
    return tokenizer.pieces[token] if 0 <= token < tokenizer.n_vocab else b"?"


def names_of(tokenizer, token, top):
    """{id: a name of its own} of the token that was chosen and of the likeliest, [(id, logprob)]:
    the label, but of several of the same bytes only the one that was chosen, or else the likeliest,
    has it; the others are token_id:7, as vLLM writes them."""
    names = {}
    for i in (token, *(i for i, _ in top)):
        name = label(tokenizer, i)
        names.setdefault(i, f"token_id:{i}" if name in names.values() else name)
    return names


def by_name(tokenizer, top, token):
    """[(id, logprob)], the likeliest first -> {name: logprob}, as many. token: the one chosen."""
    names = names_of(tokenizer, token, top)
    return {names[i]: logprob for i, logprob in top}


def logprob_lists(w):
    """OpenAI's legacy lists of the tokens that a Writer wrote."""
    t, said = w.tokenizer, [c for c in w.chunks if c.token is not None]
    at = len(t.decode(w.ids[: w.n_prompt])) if t else 0
    ends = itertools.accumulate((len(c.text) for c in said[:-1]), initial=at)
    return {
        "tokens": [label(t, c.token) for c in said],
        "token_logprobs": [c.logprob for c in said],
        "top_logprobs": [by_name(t, c.top, c.token) for c in said],
        "text_offset": list(ends)[: len(said)],
    }


class Likelihoods:
    """The log-probability of each of ids behind those before it, and which n_top were likeliest in
    its place, as a take() of read(); the first has nothing before it. n: tokens that there are."""

    def __init__(self, ids, n_top, n):
        self.ids, self.n_top, self.n = ids, n_top, n
        self.own, self.top = [None], [None]

    def __call__(self, at, rows):
        part = self.ids[at + 1 : at + 1 + len(rows)]
        chances = log_softmax(rows[: len(part), : self.n])
        self.own += chances_of(chances, part).tolist()
        for row, order in zip(chances, likeliest(chances, self.n_top).tolist()):
            self.top.append([(i, float(row[i])) for i in order])


def put_prompt_first(lists, said, tokenizer):
    """Put the prompt's tokens, of which Likelihoods tell, before those of legacy lists."""
    stream, ids = TextStream(tokenizer, start=True), said.ids
    starts = itertools.accumulate((len(stream.push(i)) for i in ids[:-1]), initial=0)
    lists["tokens"][:0] = [label(tokenizer, i) for i in ids]
    lists["token_logprobs"][:0] = said.own
    lists["top_logprobs"][:0] = [
        None if top is None else by_name(tokenizer, top, i) for top, i in zip(said.top, ids)
    ]
    lists["text_offset"][:0] = starts


def chat_logprobs(w):
    """What OpenAI's chat completion objects tell of the tokens that a Writer wrote."""
    content = [chat_logprob(w.tokenizer, c) for c in w.chunks if c.token is not None]
    return {"content": content, "refusal": None}


def chat_logprob(tokenizer, chunk):
    """What they tell of the token of a Chunk."""

    names = names_of(tokenizer, chunk.token, chunk.top)

    def told(token, logprob):
        raw = list(token_bytes(tokenizer, token)) if tokenizer else None
        return {"token": names[token], "logprob": logprob, "bytes": raw}

    return {
        **told(chunk.token, chunk.logprob),
        "top_logprobs": [told(*pair) for pair in chunk.top],
    }

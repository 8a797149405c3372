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


def by_label(tokenizer, top, token, chance):
    """[(id, logprob)], the likeliest first -> {label: logprob}. Of tokens of the same bytes the
    likelier counts, but the one that was chosen, token, stands under its label as it is."""
    told = {}
    for i, logprob in top:
        told.setdefault(label(tokenizer, i), logprob)
    own = label(tokenizer, token)
    return told | {own: chance} if own in told else told


def logprob_lists(w):
    """OpenAI's legacy lists of the tokens that a Writer wrote."""
    t, said = w.tokenizer, [c for c in w.chunks if c.token is not None]
    at = len(t.decode(w.ids[: w.n_prompt])) if t else 0
    ends = itertools.accumulate((len(c.text) for c in said[:-1]), initial=at)
    return {
        "tokens": [label(t, c.token) for c in said],
        "token_logprobs": [c.logprob for c in said],
        "top_logprobs": [by_label(t, c.top, c.token, c.logprob) for c in said],
        "text_offset": list(ends)[: len(said)],
    }


def put_prompt_first(lists, ids, logits, n_top, tokenizer):
    """Put the prompt's tokens before those of legacy lists. The first has nothing before it, so no
    chance. logits: float32 [len(ids), vocab or more], after each of ids."""
    chances = log_softmax(logits[:, : tokenizer.n_vocab])[:-1]
    own, best = chances_of(chances, ids[1:]).tolist(), likeliest(chances, n_top).tolist()
    stream = TextStream(tokenizer, start=True)
    starts = itertools.accumulate((len(stream.push(i)) for i in ids[:-1]), initial=0)
    rows = [
        by_label(tokenizer, [(i, float(row[i])) for i in order], token, chance)
        for row, order, token, chance in zip(chances, best, ids[1:], own)
    ]
    lists["tokens"][:0] = [label(tokenizer, i) for i in ids]
    lists["token_logprobs"][:0] = [None, *own]
    lists["top_logprobs"][:0] = [None, *rows]
    lists["text_offset"][:0] = starts


def chat_logprobs(w):
    """What OpenAI's chat completion objects tell of the tokens that a Writer wrote."""
    content = [chat_logprob(w.tokenizer, c) for c in w.chunks if c.token is not None]
    return {"content": content, "refusal": None}


def chat_logprob(tokenizer, chunk):
    """What they tell of the token of a Chunk."""

    def told(token, logprob):
        raw = list(token_bytes(tokenizer, token)) if tokenizer else None
        return {"token": label(tokenizer, token), "logprob": logprob, "bytes": raw}

    return {
        **told(chunk.token, chunk.logprob),
        "top_logprobs": [told(*pair) for pair in chunk.top],
    }

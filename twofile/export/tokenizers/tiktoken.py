"""tiktoken's lists of ranks."""

import base64

from ...errors import ModelError
from ...tokenizer.file import ADD_BOS, BYTE_BPE, CONTROL, IGNORE_MERGES, NFC, NORMAL
from ..sandbox import ENGINE, bounded
from ..say import need
from .splits import GPT2_SPLIT, KNOWN_SPLITS, class_runs

CONTROLS = (  # of Llama 3, and 245 reserved ones
    "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
    "<|finetune_right_pad_id|> <|step_id|> <|start_header_id|> <|end_header_id|> <|eom_id|> "
    "<|eot_id|> <|python_tag|>"
).split() + [f"<|reserved_special_token_{i}|>" for i in range(2, 247)]
TIKTOKEN = {  # ranks in the file -> pattern, flags, bos, stops, control tokens behind the ranks
    128000: (2, ADD_BOS | IGNORE_MERGES, 128000, (128001, 128008, 128009), CONTROLS),
    151643: (3, NFC, None, (151643, 151645), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
    50256: (1, 0, 50256, (50256,), ["<|endoftext|>"]),
}


def read_tiktoken(raw):
    """Lines of "base64 rank", as Llama 3 and Qwen ship them; the number of ranks tells the family
    -> (fields of pack_tokenizer, engine)."""
    try:
        rows = [line.split() for line in raw.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in rows}
    except ValueError:
        raise ModelError(
            "a line is not a base64 token and its rank; expected a tiktoken vocabulary"
        ) from None
    if sorted(ranks.values()) != list(range(len(ranks))) or len(ranks) not in TIKTOKEN:
        known = ", ".join(map(str, TIKTOKEN))
        raise ModelError(
            f"a tiktoken vocabulary of {len(ranks)} tokens; known: {known} (Llama 3, Qwen 2, GPT-2)"
        )
    pretok, flags, bos, stops, names = TIKTOKEN[len(ranks)]
    n, pieces = len(ranks), sorted(ranks, key=ranks.get) + [name.encode() for name in names]
    types = [NORMAL] * n + [CONTROL] * len(names)
    T = need("tiktoken")
    alphabet = {bytes([b]): b for b in range(256)}
    probe = lambda p: T.Encoding("x", pat_str=p, mergeable_ranks=alphabet, special_tokens={})
    classes = class_runs(lambda p, s: bytes(probe(p).encode_ordinary(s)).decode(), pretok)
    pattern = {v: k[0] for k, v in KNOWN_SPLITS.items() if len(k) == 1} | {1: GPT2_SPLIT}
    job = {"pattern": pattern[pretok], "ranks": [base64.b64encode(p).decode() for p in pieces[:n]]}
    engine = lambda texts: bounded(ENGINE, {**job, "texts": texts}, 4 << 30, 60)
    fields = dict(
        kind=BYTE_BPE, pieces=pieces, prio=[-float(i) for i in range(len(pieces))], types=types
    )
    fields |= dict(flags=flags, pretok=pretok, bos=bos, eos=stops[0], stops=stops, classes=classes)
    if flags & NFC:
        import unicodedata

        return fields, lambda texts: engine([unicodedata.normalize("NFC", s) for s in texts])
    return fields, engine

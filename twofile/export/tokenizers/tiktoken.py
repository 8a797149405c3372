"""Lists of ranks: tiktoken's, and Mistral's tekken.json."""

import base64
import json

from ...errors import ModelError
from ...tokenizer.file import ADD_BOS, BYTE_BPE, CONTROL, IGNORE_MERGES, NFC, NORMAL
from ..damage import reading
from ..sandbox import ENGINE, bounded
from ..say import need
from .forms import form_rows
from .splits import GPT2_SPLIT, KNOWN_SPLITS, class_runs

CONTROLS = (  # of Llama 3, and 245 reserved ones
    "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
    "<|finetune_right_pad_id|> <|step_id|> <|start_header_id|> <|end_header_id|> <|eom_id|> "
    "<|eot_id|> <|python_tag|>"
).split() + [f"<|reserved_special_token_{i}|>" for i in range(2, 247)]
TEKKEN_CONTROLS = (  # of files that do not list them
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] "
    "[/TOOL_RESULTS] [TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] "
    "[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
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
    pieces = sorted(ranks, key=ranks.get)
    n, types = len(pieces), [NORMAL] * len(pieces) + [CONTROL] * len(names)
    fields = dict(pieces=pieces + [name.encode() for name in names], types=types, flags=flags)
    fields |= dict(pretok=pretok, bos=bos, eos=stops[0], stops=stops)
    return ranked(fields, pieces[:n], 0)


def ranked(fields, ranks, first):
    """Fields without kind and what follows from it, the pieces by rank, the id of the first of them
    -> (fields of pack_tokenizer, engine)."""
    T, pretok = need("tiktoken"), fields["pretok"]
    alphabet = {bytes([b]): b for b in range(256)}
    probe = lambda p: T.Encoding("x", pat_str=p, mergeable_ranks=alphabet, special_tokens={})
    classes = class_runs(lambda p, s: bytes(probe(p).encode_ordinary(s)).decode(), pretok)
    pattern = {v: k[0] for k, v in KNOWN_SPLITS.items() if len(k) == 1} | {1: GPT2_SPLIT}
    job = {"pattern": pattern[pretok], "ranks": [base64.b64encode(p).decode() for p in ranks]}
    prio = [-float(i) for i in range(len(fields["pieces"]))]
    fields = dict(fields, kind=BYTE_BPE, prio=prio, classes=classes)
    nfc = lambda text: text
    if fields["flags"] & NFC:
        import unicodedata

        nfc = lambda text: unicodedata.normalize("NFC", text)
        fields["forms"] = form_rows(lambda text: unicodedata.normalize("NFD", text), nfc)

    def engine(texts):
        rows = bounded(ENGINE, {**job, "texts": [nfc(text) for text in texts]}, 4 << 30, 60)
        return [[i + first for i in row] for row in rows]

    return fields, engine


def read_tekken(raw):
    """Mistral's tekken.json: control tokens, and behind them as many of the ranked as the model
    has -> (fields of pack_tokenizer, engine)."""
    with reading():
        j = json.loads(raw)
        config, vocab = j["config"], sorted(j["vocab"], key=lambda row: row["rank"])
        size, count = config["default_vocab_size"], config["default_num_special_tokens"]
        ranks = [base64.b64decode(row["token_bytes"]) for row in vocab[: size - count]]
        said = {t["rank"]: t["token_str"] for t in j.get("special_tokens") or ()}
        said = said or dict(enumerate(TEKKEN_CONTROLS))
        names = [said.get(i, f"<SPECIAL_{i}>") for i in range(count)]
        pieces = [name.encode() for name in names] + ranks
        cuts, whole = (config["pattern"],), [row["rank"] for row in vocab] == [*range(len(vocab))]
        bos, eos = names.index("<s>"), names.index("</s>")
    if cuts not in KNOWN_SPLITS or not whole or len(ranks) != size - count:
        found = f"tekken.json: a pattern that is not known, or {len(ranks)} of {size - count} ranks"
        raise ModelError(f"{found}; expected Mistral's; is it whole?")
    types = [CONTROL] * count + [NORMAL] * len(ranks)
    fields = dict(pieces=pieces, types=types, flags=ADD_BOS | IGNORE_MERGES)
    fields |= dict(pretok=KNOWN_SPLITS[cuts], bos=bos, eos=eos, unk=None, stops=[eos])
    return ranked(fields, ranks, count)

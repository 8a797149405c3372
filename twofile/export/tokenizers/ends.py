"""What stands before a text, and what ends one: whose word counts."""

from .rules import steps_of

# classes of transformers that put a begin token before a text unless they are told not to
BEGINNERS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")


def begin_of(j, hints, vocab):
    """A tokenizer.json -> ids that stand before a text, [] for none; the begin token, or None.
    The post-processor says it; else the folder's settings: hints settings, special, bos, add_bos.
    vocab: {text: id}."""
    special, settings = hints.get("special") or {}, hints.get("settings") or {}
    begins, _ = around(j)
    bos = vocab.get(special.get("bos_token"), hints.get("bos"))
    if begins:
        return begins, begins[0]
    named = str(settings.get("tokenizer_class")).removesuffix("Fast")
    wanted = settings.get("add_bos_token", named in BEGINNERS) or hints.get("add_bos")
    return [bos] if wanted and bos is not None else [], bos


def end_of(hints, vocab):
    """-> the end token, or None; ids that end a text: what config.json, generation_config.json and
    the tokenizer's settings say, together."""
    text = (hints.get("special") or {}).get("eos_token")
    eos = vocab.get(text, hints.get("eos"))
    return eos, sorted({*(hints.get("stops") or ()), *([] if eos is None else [eos])})


def around(j):
    """ids that the post-processor of a tokenizer.json puts before a text, and behind it."""
    before, behind = [], []
    for step in steps_of(j.get("post_processor"), "processors"):
        first, last = [], []
        if step["type"] in ("RobertaProcessing", "BertProcessing"):
            first, last = [step["cls"][1]], [step["sep"][1]]
        elif step["type"] == "TemplateProcessing":
            side, known = first, step.get("special_tokens") or {}
            for row in step["single"]:
                if "Sequence" in row:
                    side = last
                else:
                    side += known[row["SpecialToken"]["id"]]["ids"]
        before, behind = first + before, behind + last
    return before, behind

"""Small tokenizer.json files, as Python dicts, and what the tokenizers library makes of texts."""

import json

from twofile.export.tokenizers.any import read_tokenizer
from twofile.export.tokenizers.splits import byte_alphabet
from twofile.tokenizer.tokenizer import Tokenizer

MARK = "\u2581"
SPACED = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
PREPENDED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, SPACED]}
CHARS = {b: ch for ch, b in byte_alphabet().items()}


def added(content, special=False, **how):
    """An added token; its id is given later."""
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    return {"id": 0, "content": content, "special": special, **plain, **how}


def whole(model, tokens, **parts):
    """A tokenizer.json of a model and its added tokens, numbered behind its vocabulary."""
    vocab = model["vocab"]
    for n, t in enumerate([t for t in tokens if t["content"] not in vocab]):
        t["id"] = len(vocab) + n
    for t in tokens:
        t["id"] = vocab.get(t["content"], t["id"])
    plain = dict(version="1.0", truncation=None, padding=None, normalizer=None, pre_tokenizer=None)
    plain |= dict(post_processor=None, decoder=None)
    rules = dict(dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None)
    rules |= dict(fuse_unk=False, byte_fallback=False, ignore_merges=False)
    return {**plain, "added_tokens": tokens, **parts, "model": {"type": "BPE", **rules, **model}}


def bytewise(merges=(), tokens=(), drop=(), raw=(), split=None, use_regex=True, space=False, **model):
    """Byte-level: merges of bytes [(bytes, bytes)], without the bytes of drop, with raw keys."""
    show = lambda bits: "".join(CHARS[b] for b in bits)
    keys = [CHARS[b] for b in range(256) if b not in drop] + [show(a + b) for a, b in merges] + list(raw)
    level = dict(type="ByteLevel", add_prefix_space=space, trim_offsets=True, use_regex=use_regex and split is None)
    pre = {"type": "Sequence", "pretokenizers": [split, level]} if split else level
    vocab = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    pairs = [[show(a), show(b)] for a, b in merges]
    decoder = dict(level, use_regex=True)
    parts = {"normalizer": model.pop("normalizer", None), "post_processor": model.pop("post_processor", None)}
    return whole(dict(vocab=vocab, merges=pairs, **model), list(tokens), pre_tokenizer=pre, decoder=decoder, **parts)


def spaced(letters, merges, tokens=(), normalizer=None, pre=None, no_bytes=(), **model):
    """In SentencePiece's manner, with byte tokens to fall back on but for those of no_bytes."""
    keys = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256) if b not in no_bytes), *letters]
    keys += [a + b for a, b in merges]
    vocab = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    named = [added(text, True) for text in ("<unk>", "<s>", "</s>")]
    model = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True) | model
    parts = dict(normalizer=normalizer, pre_tokenizer=pre)
    return whole(dict(vocab=vocab, merges=[list(m) for m in merges], **model), [*named, *tokens], **parts)


def metaspace(scheme, split=False):
    return dict(type="Metaspace", replacement=MARK, prepend_scheme=scheme, split=split)


def ours(j, template=None, special=None, **hints):
    """The Tokenizer that export.py makes of it."""
    hints = dict(n_vocab=None, bos=None, eos=None, template=template, special=special or {}) | hints
    return Tokenizer(read_tokenizer(json.dumps(j), hints))


def theirs(T, j, controls=False):
    """text -> ids by the library; controls: whether control tokens are found in texts."""
    engine = T.Tokenizer.from_str(json.dumps(j))
    engine.no_padding()
    engine.no_truncation()
    engine.encode_special_tokens = not controls
    return lambda text: engine.encode(text, add_special_tokens=False).ids

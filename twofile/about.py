"""What a model file says of itself."""

import math

from .errors import printable
from .layers.stack import TABLES, expected_tensors


def sampling_said(config):
    """The fields of Sampling that a model's makers chose, as {name: number}."""
    said = {
        "temperature": config.sampling.temperature,
        "top_p": config.sampling.top_p,
        "top_k": config.sampling.top_k,
    }
    return {name: round(value, 6) for name, value in said.items() if value}


def about(file, n_ctx, kept, tokenizer):
    """A file of open_model as a dict of plain values. n_ctx: the context in use. kept: bytes of a
    cache of so many positions. tokenizer: its Tokenizer, or None."""
    c = file.config
    slots = [slot for slot in expected_tensors(c) if slot.name not in TABLES]
    learned = [slot for slot in slots if slot.role in ("matrix", "f32")]
    types = {file.tensors[slot.name].dtype for slot in slots if slot.role == "matrix"}
    return {
        "file": file.path,
        "bytes": file.size,
        "model_id": file.model_id,
        "architecture": printable(c.arch_tag),
        "parameters": sum(math.prod(slot.shape) for slot in learned),
        "type": "/".join(sorted(types)),
        "dim": c.dim,
        "layers": c.n_layers,
        "heads": c.heads.n,
        "kv_heads": c.heads.kv,
        "head_dim": c.heads.size,
        "ffn_dim": c.ffn.width,
        "vocab_size": c.vocab_size,
        "max_ctx": c.max_ctx,
        "ctx": n_ctx,
        "memory_at_ctx": file.size + kept,
        "kv_bytes_at_ctx": kept,
        "sampling": sampling_said(c) or None,
        "tokenizer": tokenizer and tokenizer.sha256.hex(),
        "chat": tokenizer and tokenizer.chat_form(),
        "note": printable(file.note),
    }

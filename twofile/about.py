"""What a model file says of itself."""

import math

from .errors import printable
from .format.types import MATRIX_TYPES


def sampling_said(config):
    """The fields of Sampling that a model's makers chose, as {name: number}."""
    said = {
        "temperature": config.sample_temperature,
        "top_p": config.sample_top_p,
        "top_k": config.sample_top_k,
    }
    return {name: round(value, 6) for name, value in said.items() if value}


def about(file, n_ctx, kept, tokenizer):
    """A file of open_model as a dict of plain values. n_ctx: the context in use. kept: bytes of a
    cache of so many positions. tokenizer: its Tokenizer, or None."""
    c, t = file.config, file.tensors.values()
    matrices = [x for x in t if x.dtype in MATRIX_TYPES and len(x.shape) == 2]
    weights = [
        x for x in t if x.dtype in MATRIX_TYPES and x.name[-2:] != ".s" and x.name[:4] != "rope"
    ]
    return {
        "file": file.path,
        "bytes": file.size,
        "model_id": file.model_id,
        "architecture": printable(c.arch_tag),
        "parameters": sum(math.prod(x.shape) for x in weights),
        "type": "/".join(sorted({x.dtype for x in matrices})),
        "dim": c.dim,
        "layers": c.n_layers,
        "heads": c.n_heads,
        "kv_heads": c.n_kv_heads,
        "head_dim": c.head_dim,
        "ffn_dim": c.ffn_dim,
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

"""What a GGUF's metadata says, as our Config and its angles."""

import numpy as np

from ...format.config import Config
from ...format.fields import ACTIVATIONS, MANY_KINDS, NONE
from ..arrays import to_float32
from ..damage import reading
from ..families.rules import NEEDED, first_of
from ..layers.attention import qk_norm
from ..layers.stack import flags
from ..rope import OLD, no_rope, rope_table, stretched
from ..source import as_declared


def gguf_config(told, j, w):
    """Metadata, as told and as adapted -> Config, but for the rope tables. w: the weights, under
    names that agree with it afterwards."""
    with reading():
        dim, heads = int(j["embedding_length"]), int(j["attention.head_count"])
        eps = first_of(j, *EPSILON, otherwise=1e-5)
    parallel = bool(w.form.parallel(j))
    if w.form.lone_norm and not w.has(w.names.fn):
        parallel = True
        w.rename(fn=w.names.an)
    tied = not w.has(w.names.head)
    with reading():
        head_dim = int(j.get("attention.key_length") or dim // heads)
        ids = {k: j.get(f"tokenizer.ggml.{k}_token_id") for k in ("bos", "eos")}
        vocab, experts = len(w.arrays[w.names.embed]), gguf_experts(j, w, dim)
        said = dict(
            n_layers=int(j["block_count"]),
            n_kv_heads=int(j.get("attention.head_count_kv") or heads),
            ffn_dim=int(first_of(j, *WIDTH, otherwise=NEEDED)),
            max_ctx=gguf_context(j, w.form),
            eps=round(float(eps), 12),
            **{k: NONE if v is None or v >= vocab else int(v) for k, v in ids.items()},
            **experts,
            **w.form.numbers(told),
        )
        numbers = as_declared(said)
        kinds = w.form.kinds(told)
    return Config(
        w.form.arch[:16],
        dim=dim,
        n_heads=heads,
        head_dim=head_dim,
        vocab_size=vocab,
        norm=int(w.family.layer_norm),
        act=ACTIVATIONS.index(w.form.act or "silu"),
        qk_norm=qk_norm(w, head_dim),
        parallel=int(parallel),
        kinds=kinds.ljust(MANY_KINDS, b"\0"),
        **flags(w, tied),
        **numbers,
    )


def gguf_context(j, form):
    """Positions that a model is for, with those that its scaling adds."""
    said = gguf_scaling(j, form)
    return stretched(said, said[OLD], int(j["context_length"]))


EPSILON = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
WIDTH = "feed_forward_length", "expert_feed_forward_length"


def gguf_experts(j, w, dim):
    """The numbers of a mixture of experts; the shared one's gate becomes a matrix."""
    if not w.names.router:
        return {}
    width = first_of(j, "expert_feed_forward_length", "feed_forward_length", otherwise=NEEDED)
    numbers = dict(
        n_experts=int(j["expert_count"]),
        top_k=int(j["expert_used_count"]),
        expert_ffn=int(width),
        norm_topk=int(w.form.norm_topk),
    )
    if w.has(w.names.shared_gate):
        numbers["shared_ffn"] = len(w.arrays[w.names.w1.format(0)])
        end = w.names.shared_gate.partition("{}.")[2]
        for name, array in w.arrays.items():
            if name.endswith(end) and len(array.shape) == 1:
                w.arrays[name] = array.reshape(1, dim)
    return numbers


def gguf_rope(j, w, c, window):
    """As hub_rope. The frequencies that llama 3 stretches stand in the file, as do longrope's
    factors."""
    if not w.family.rotary:
        return no_rope(c)
    there = lambda name: name in w.arrays and not c.second
    take = lambda name: np.array(w.arrays.pop(name), float) if there(name) else None
    with reading():
        rotated = int(j.get("rope.dimension_count") or c.heads.size)
        theta = float(j.get("rope.freq_base") or 10000.0)
        freqs, short, long = (
            take(f"rope_{name}.weight") for name in ("freqs", "factors_short", "factors_long")
        )
        rope = gguf_scaling(j, w.form)
        beyond = 0
        if short is not None:
            rope |= {"rope_type": "longrope", "short_factor": short, "long_factor": long}
            rope["attention_factor"] = rope.get("attn_factor")
            beyond = int(rope[OLD])
    table = rope_table(c.heads.size, theta, rope, rotated, c.max_ctx)
    with reading():
        if freqs is not None:
            table[:, 0, : rotated // 2] /= freqs
        other = float(j.get("rope.freq_base_swa") or 10000.0) if w.form.window_theta else None
        ids = [0 if w.form.rotates(j, i) else -1 for i in range(c.n_layers)]
    if other is None:
        return table, ids, rotated, beyond
    table = np.concatenate((table, rope_table(c.heads.size, other, {}, rotated)))
    return table, [int(size > 0) for size in window], rotated, 0


def gguf_scaling(j, form):
    """What rope_table is told of the scaling."""
    start = "rope.scaling."
    said = {key.removeprefix(start): value for key, value in j.items() if key.startswith(start)}
    kind = said.get("type") or "none"
    rope = {"rope_type": kind, OLD: said.get("original_context_length"), **said}
    if kind == "yarn":
        rope[OLD] = rope[OLD] or int(j["context_length"])
    if kind == "yarn":
        slow, fast = said.get("yarn_beta_slow"), said.get("yarn_beta_fast")
        rope |= {"beta_slow": slow, "beta_fast": fast, "attention_factor": None, **form.yarn}
    return rope


def gguf_second_rope(told, w, c):
    """The table of layers of the second kind of attention: the pairs that do not turn have factors
    out of all proportion."""
    with reading():
        factors = to_float32(w.arrays.pop("rope_freqs.weight"))
        theta = float(told.get("rope.freq_base", 1e6))
    table = rope_table(c.second.size, theta)
    with reading():
        table[:, 0] *= (factors < 1e20) / factors
    return table

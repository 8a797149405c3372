"""The numbers of the config, each once: name, place, range, meaning."""

import math
from typing import NamedTuple

from ..errors import ModelError

NONE = 0xFFFFFFFF  # an absent token id
ATTENTION, CONVOLUTION, DELTA, ATTENTION2 = range(4)  # kinds of layers: how tokens meet
MANY_KINDS = 224  # layers whose kind is told; those behind are ATTENTION
ACTIVATIONS = ("silu", "gelu_tanh", "gelu_erf", "relu", "relu2", "clamped")  # by their number
CLAMPED = ACTIVATIONS.index("clamped")
BY_NUMBER = ", ".join(f"{number} {name}" for number, name in enumerate(ACTIVATIONS))
ANY = math.inf


class Field(NamedTuple):
    """One number: its name in the file, its struct code, where it is in memory ("" = nowhere: it
    must be zero), the least and the most that this version runs, what it means, its default."""

    name: str
    code: str
    at: str
    least: float
    most: float
    meaning: str
    default: object = 0


def whole(name, at, least, most, meaning, default=0):
    return Field(name, "I", at, least, most, meaning, default)


def real(name, at, meaning, default=0.0):
    return Field(name, "f", at, 0, ANY if at else 0, meaning, default)


FIELDS = (  # in the order of the file
    Field("arch_tag", "16s", "arch_tag", 0, 0, "name of the family, for people", ""),
    whole("dim", "dim", 1, 1 << 20, "width of the residual stream"),
    whole("n_layers", "n_layers", 1, 1024, "layers"),
    whole("n_heads", "heads.n", 1, 1 << 16, "heads of queries"),
    whole("n_kv_heads", "heads.kv", 1, 1 << 16, "heads of keys and values; divides n_heads"),
    whole("head_dim", "heads.size", 2, 1024, "numbers of a head, even"),
    whole("ffn_dim", "ffn.width", 1, 1 << 22, "hidden width of the feed-forward part"),
    whole("vocab_size", "vocab_size", 1, 1 << 22, "tokens"),
    whole("max_ctx", "max_ctx", 1, 1 << 24, "positions the model was made for"),
    whole("norm", "norms.centred", 0, 1, "0 RMS, 1 layer norm"),
    whole("act", "ffn.act", 0, len(ACTIVATIONS) - 1, BY_NUMBER),
    whole("qk_norm", "heads.norm", 0, 2, "norm of q and k: 1 each head, 2 all heads together"),
    whole("qk_after", "heads.norm_after", 0, 1, "1 = that norm comes behind the rotation"),
    whole("parallel", "parallel", 0, 1, "1 = attention and feed-forward read the same"),
    whole("router", "", 0, 0, "0 = softmax"),
    whole("norm_topk", "experts.normed", 0, 1, "1 = the weights of a token's experts sum to 1"),
    whole("n_experts", "experts.n", 0, 1024, "experts of a layer, 0 = no mixture"),
    whole("top_k", "experts.chosen", 0, 32, "experts of a token"),
    whole("expert_ffn", "experts.width", 0, 1 << 20, "hidden width of an expert"),
    whole("shared_ffn", "experts.shared", 0, 1 << 20, "of an expert for every token, 0 = none"),
    whole("n_rope", "rope.tables", 1, 16, "tables of the tensor rope", 1),
    whole("flags", "", 0, (1 << 20) - 1, "parts that are there, below"),
    real("eps", "norms.eps", "of the norms, between 0 and 1", 1e-5),
    real("post_eps", "", "zero in this version"),
    real("attn_scale", "heads.scale", "of the scores, 0 = 1 / sqrt(head_dim)"),
    real("embed_scale", "embedding.scale", "of the embedding, 0 = 1"),
    real("resid_scale", "resid_scale", "of what joins the stream, 0 = 1"),
    real("logit_scale", "output.scale", "of the logits, 0 = 1"),
    real("attn_cap", "heads.cap", "a score x becomes cap tanh(x / cap), 0 = not"),
    real("final_cap", "output.cap", "likewise a logit"),
    real("clip_qkv", "", "zero in this version"),
    real("route_scale", "", "zero in this version"),
    real("act_alpha", "ffn.alpha", "of the clamped gate"),
    real("act_limit", "ffn.limit", "of the clamped gate"),
    real("temp_beta", "rope.beta", "queries times 1 + beta ln(1 + position div temp_len), 0 = not"),
    real("temp_len", "rope.length", "a whole number of positions"),
    whole("bos", "bos", 0, ANY, "begin token, 0xFFFFFFFF = none", NONE),
    whole("eos", "eos", 0, ANY, "end token, 0xFFFFFFFF = none", NONE),
    Field("tokenizer_sha256", "32s", "tokenizer_sha256", 0, 0, "of the tokenizer.bin", bytes(32)),
    whole("rope_long", "rope.long", 0, ANY, "beyond this context the second half of the tables"),
    real("sample_temperature", "sampling.temperature", "its makers' temperature, 0 = not said"),
    real("sample_top_p", "sampling.top_p", "their top-p, 0 = not said"),
    whole("sample_top_k", "sampling.top_k", 0, ANY, "their top-k, 0 = not said"),
    whole("conv_len", "conv.taps", 0, 16, "taps of the convolutions"),
    whole("delta_k_heads", "delta.k_heads", 0, 1 << 12, "heads of q and k in delta layers"),
    whole("delta_v_heads", "delta.v_heads", 0, 1 << 12, "heads of v and of the states there"),
    whole("delta_k_dim", "delta.k_dim", 0, 1024, "numbers of a key there, a multiple of 4"),
    whole("delta_v_dim", "delta.v_dim", 0, 1024, "numbers of a value there"),
    whole("head_dim2", "second.size", 0, 1024, "head_dim of the second kind of attention"),
    whole("n_kv_heads2", "second.kv", 0, 1 << 16, "n_kv_heads of that kind"),
    whole("kv_shared", "shared.layers", 0, 1023, "last layers that see an earlier one's k and v"),
    whole("ffn_dim2", "shared.width", 0, 1 << 22, "their ffn_dim, 0 = the same"),
    whole("ple_dim", "perlayer.width", 0, 1 << 14, "width of embeddings of layers, 0 = none"),
    Field("kinds", f"{MANY_KINDS}s", "kinds", 0, 0, "kind of each layer", bytes(MANY_KINDS)),
)


class Bit(NamedTuple):
    """A bit of flags: its name, the bit, where it is in memory, what it means, and what the truth
    there is when the bit is set."""

    name: str
    bit: int
    at: str
    meaning: str
    when: bool = True


FLAGS = (
    Bit("head", 1 << 0, "output.own", "own output matrix, else embed is used"),
    Bit("qkv_bias", 1 << 1, "heads.bias", "bias of qkv"),
    Bit("o_bias", 1 << 2, "heads.out_bias", "bias of o"),
    Bit("gate_up_bias", 1 << 3, "ffn.up_bias", "bias of gate_up"),
    Bit("down_bias", 1 << 4, "ffn.down_bias", "bias of down"),
    Bit("tokenizer", 1 << 5, "tokenizer", "the tokenizer is inside"),
    Bit("ungated", 1 << 6, "ffn.gated", "no gate", when=False),
    Bit("post_norm", 1 << 7, "norms.post", "norms behind attention and feed-forward"),
    Bit("no_pre_norm", 1 << 8, "norms.pre", "none before them", when=False),
    Bit("positions", 1 << 9, "embedding.positions", "a table of positions"),
    Bit("head_bias", 1 << 10, "output.bias", "bias of head"),
    Bit("embed_norm", 1 << 11, "embedding.norm", "norm of the embedding"),
    Bit("norm_bias", 1 << 12, "norms.bias", "norms have biases"),
    Bit("shared_gate", 1 << 13, "experts.shared_gate", "the shared expert has a gate"),
    Bit("expert_bias", 1 << 14, "experts.bias", "biases of router and experts"),
    Bit("sinks", 1 << 15, "heads.sinks", "scores that take weight and have no value"),
    Bit("attn_gate", 1 << 16, "heads.gate", "attention has an output gate"),
    Bit("v_norm", 1 << 17, "heads.v_norm", "values are normed, each head, without weights"),
    Bit("layer_scale", 1 << 18, "layer_scale", "each layer ends with a factor"),
    Bit("delta_turns", 1 << 19, "delta.turns", "heads of values take those of keys in turns"),
)
OPTIONAL = ("experts", "second", "shared", "conv", "delta", "perlayer")  # parts: None if all is 0


def check_ranges(numbers):
    """Every number in its range; numbers: {name of a Field: value}. Raises ModelError."""
    for field in FIELDS:
        value = numbers[field.name]
        if field.code == "I" and not field.least <= value <= field.most:
            hint = "" if field.most else "; it needs a newer run.py"
            found = f"{field.name} is {str(value)[:40]}, expected {field.least}..{field.most}{hint}"
            raise ModelError(f"{found}; export again")
        if field.code != "f" or field.at.startswith("sampling."):
            continue
        if not math.isfinite(value) or value < 0:
            found = f"{field.name} is {value}, expected a finite number, not negative"
            raise ModelError(f"{found}; export again")
        if value > field.most:
            raise ModelError(
                f"{field.name} is {value}, expected 0 in this version; it needs a newer run.py"
            )

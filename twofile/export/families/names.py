"""What a source calls its weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """What each weight is called: a layer's with {} for its number, an expert's with another for
    its own; None: there is none. A bias is called as its weight is, with another end."""

    embed: str  # rows of tokens
    out_norm: str  # behind the last layer
    head: str  # rows of logits
    positions: str | None = None  # rows of positions
    embed_norm: str | None = None
    # norms of a layer: before attention and before feed-forward, and behind them
    an: str | None = None
    fn: str | None = None
    an2: str | None = None
    fn2: str | None = None
    own_an: str | None = None  # where parts that read the same may have a norm each
    own_fn: str | None = None
    # attention: queries, keys, values, or all in one; norms of queries and keys; what comes behind
    wq: str | None = None
    wk: str | None = None
    wv: str | None = None
    wqkv: str | None = None
    qn: str | None = None
    kn: str | None = None
    wo: str | None = None
    sinks: str | None = None
    # feed-forward: gate, down, up, or gate and up in one
    w1: str | None = None
    w2: str | None = None
    w3: str | None = None
    w13: str | None = None
    # experts: who is asked; gate, down and up of each; of all in one, gate and up together, down
    router: str | None = None
    e1: str | None = None
    e2: str | None = None
    e3: str | None = None
    e13: str | None = None
    e2s: str | None = None
    shared_gate: str | None = None  # how much the expert of every token counts
    # layers that convolve: taps, what goes in, what comes out
    conv: str | None = None
    mix: str | None = None
    out: str | None = None
    # of the gated delta rule: the gate, how much is learned, how much fades; queries, keys, values
    # and gates in one, both rates in one; rates and their shifts by head, the norm behind
    z: str | None = None
    b: str | None = None
    a: str | None = None
    qkvz: str | None = None
    ba: str | None = None
    rates: str | None = None
    dt: str | None = None
    dn: str | None = None
    # embeddings for each layer: of the whole model, then of a layer; the factor a layer ends with
    ple_embed: str | None = None
    ple_proj: str | None = None
    ple_norm: str | None = None
    ple_gate: str | None = None
    ple_up: str | None = None
    pn: str | None = None
    scale: str | None = None


WHOLE_MODEL = ("embed", "positions", "embed_norm", "out_norm", "ple_embed", "ple_proj", "ple_norm")


class Bare(str):
    """A name that does not end in ".weight"."""


def named(prefix, layer, head, *parts):
    """Names from dicts of them without what all begin and end with; of two the later counts."""

    def whole(key, name):
        place = prefix if key in WHOLE_MODEL else prefix + layer
        return place + name + ("" if isinstance(name, Bare) else ".weight")

    said = {key: name for part in parts for key, name in part.items()}
    said = {key: name and whole(key, name) for key, name in said.items()}
    return Names(head=head + ".weight", **said)


def like_llama(*parts, **own):
    """The names of Llama on the Hub, but for these; what is None is not there."""
    return named("model.", "layers.{}.", "lm_head", HUB_PARTS, *parts, own)


def in_gguf(*parts, **own):
    """The names of Llama in llama.cpp's files, but for these."""
    return named("", "blk.{}.", "output", GGUF_PARTS, *parts, own)


HUB_PARTS = dict(
    embed="embed_tokens",
    out_norm="norm",
    an="input_layernorm",
    fn="post_attention_layernorm",
    wq="self_attn.q_proj",
    wk="self_attn.k_proj",
    wv="self_attn.v_proj",
    wo="self_attn.o_proj",
    qn="self_attn.q_norm",
    kn="self_attn.k_norm",
    w1="mlp.gate_proj",
    w2="mlp.down_proj",
    w3="mlp.up_proj",
)
GGUF_PARTS = dict(
    embed="token_embd",
    out_norm="output_norm",
    positions="position_embd",
    an="attn_norm",
    fn="ffn_norm",
    an2="post_attention_norm",
    fn2="post_ffw_norm",
    wq="attn_q",
    wk="attn_k",
    wv="attn_v",
    wqkv="attn_qkv",
    qn="attn_q_norm",
    kn="attn_k_norm",
    wo="attn_output",
    w1="ffn_gate",
    w2="ffn_down",
    w3="ffn_up",
)
META_PARTS = dict(
    embed="tok_embeddings",
    out_norm="norm",
    an="attention_norm",
    fn="ffn_norm",
    wq="attention.wq",
    wk="attention.wk",
    wv="attention.wv",
    wo="attention.wo",
    w1="feed_forward.w1",
    w2="feed_forward.w2",
    w3="feed_forward.w3",
)
HF_NAMES, GGUF_NAMES = like_llama(), in_gguf()
META_NAMES = named("", "layers.{}.", "output", META_PARTS)

"""The numbers a model is made of."""

import math
import struct
from dataclasses import dataclass

from ..errors import ModelError
from ..files import padded
from .types import BLOCK, GROUP

NONE = 0xFFFFFFFF  # an absent token id
CONFIG_U32 = (
    "dim n_layers n_heads n_kv_heads head_dim ffn_dim vocab_size max_ctx norm act qk_norm qk_after parallel "
    "router norm_topk n_experts top_k expert_ffn shared_ffn n_rope flags"
).split()
CONFIG_F32 = (
    "eps post_eps attn_scale embed_scale resid_scale logit_scale attn_cap final_cap clip_qkv route_scale "
    "act_alpha act_limit temp_beta temp_len"
).split()
CONFIG_LAST = "rope_long sample_temperature sample_top_p sample_top_k".split()
CONFIG_MIX = "conv_len delta_k_heads delta_v_heads delta_k_dim delta_v_dim head_dim2 n_kv_heads2 kv_shared".split()
CONFIG_MIX += "ffn_dim2 ple_dim".split()
CONFIG_F32_USED = set(CONFIG_F32) - {"post_eps", "clip_qkv", "route_scale"}
CONFIG = struct.Struct(
    f"<16s{len(CONFIG_U32)}I{len(CONFIG_F32)}f2I32sI2fI{len(CONFIG_MIX)}I224s"
)  # 476 of the 512 bytes
FLAGS = {"head": 1, "qkv_bias": 2, "o_bias": 4, "gate_up_bias": 8, "down_bias": 16, "tokenizer": 32}

# no gate; norms behind attention and feed-forward; no norms before them; table of positions; and so on
FLAGS |= {
    "ungated": 64,
    "post_norm": 128,
    "no_pre_norm": 256,
    "positions": 512,
    "head_bias": 1024,
    "embed_norm": 2048,
}
FLAGS |= {"norm_bias": 4096, "shared_gate": 8192, "expert_bias": 16384, "sinks": 32768}
FLAGS |= {"attn_gate": 1 << 16, "v_norm": 1 << 17, "layer_scale": 1 << 18, "delta_turns": 1 << 19}
ATTENTION, CONV, DELTA, ATTENTION2 = range(4)  # kinds of layers: how tokens learn of each other
ACTIVATIONS = ("silu", "gelu_tanh", "gelu_erf", "relu", "relu2", "clamped")
RANGES = {  # field -> (least, most) that this version runs; what is not listed must be zero
    "dim": (1, 1 << 20),
    "n_layers": (1, 1024),
    "n_heads": (1, 1 << 16),
    "n_kv_heads": (1, 1 << 16),
    "head_dim": (2, 1024),
    "ffn_dim": (1, 1 << 22),
    "vocab_size": (1, 1 << 22),
    "max_ctx": (1, 1 << 24),
    "norm": (0, 1),
    "act": (0, len(ACTIVATIONS) - 1),
    "qk_norm": (0, 2),
    "qk_after": (0, 1),
    "parallel": (0, 1),
    "norm_topk": (0, 1),
    "n_experts": (0, 1024),
    "top_k": (0, 32),
    "expert_ffn": (0, 1 << 20),
    "shared_ffn": (0, 1 << 20),
    "n_rope": (1, 16),
    "flags": (0, (1 << 20) - 1),
    "conv_len": (0, 16),
    "delta_k_heads": (0, 1 << 12),
    "delta_v_heads": (0, 1 << 12),
    "delta_k_dim": (0, 1024),
    "delta_v_dim": (0, 1024),
    "head_dim2": (0, 1024),
    "n_kv_heads2": (0, 1 << 16),
    "kv_shared": (0, 1023),
    "ffn_dim2": (0, 1 << 22),
    "ple_dim": (0, 1 << 14),
}


@dataclass(frozen=True)
class Config:
    """The numbers a model is made of, in the order of the file. Zero means off; docs/format.md has the table."""

    arch_tag: str  # the family, for people only: no decision hangs on it
    dim: int  # width of the residual stream
    n_layers: int
    n_heads: int  # query heads
    n_kv_heads: int  # key/value heads; divides n_heads
    head_dim: int
    ffn_dim: int  # hidden width of the feed-forward part
    vocab_size: int
    max_ctx: int  # positions the model was made for
    norm: int = 0  # 0 = RMS, 1 = layer norm
    act: int = 0  # of ACTIVATIONS
    qk_norm: int = 0  # norm of queries and keys: 1 = each head by itself, 2 = all heads together
    qk_after: int = 0  # 1 = that norm comes behind the rotation
    parallel: int = 0  # 1 = attention and feed-forward read the same input
    router: int = 0
    norm_topk: int = 0  # 1 = the weights of the chosen experts sum to 1
    n_experts: int = (
        0  # 0 = no mixture of experts; else the feed-forward part of every layer is one
    )
    top_k: int = 0  # experts of a token
    expert_ffn: int = 0
    shared_ffn: int = 0  # width of an expert that every token goes to, 0 = none
    n_rope: int = 1  # tables in the tensor "rope"
    flags: int = 0  # FLAGS, or-ed
    eps: float = 1e-5  # of the norms
    post_eps: float = 0.0
    attn_scale: float = 0.0  # 0 = 1/sqrt(head_dim)
    embed_scale: float = 0.0
    resid_scale: float = 0.0
    logit_scale: float = 0.0
    attn_cap: float = 0.0
    final_cap: float = 0.0
    clip_qkv: float = 0.0
    route_scale: float = 0.0
    act_alpha: float = 0.0
    act_limit: float = 0.0
    temp_beta: float = 0.0
    temp_len: float = 0.0
    bos: int = NONE
    eos: int = NONE
    tokenizer_sha256: bytes = bytes(32)  # of the whole tokenizer.bin; zeros = exported without one
    rope_long: int = (
        0  # a context longer than this uses the second half of the rope tables; 0 = there is none
    )
    sample_temperature: float = 0.0  # how the model's makers sample; 0 = they do not say
    sample_top_p: float = 0.0
    sample_top_k: int = 0
    conv_len: int = 0  # taps of the convolutions of layers of kind CONV and DELTA
    delta_k_heads: int = 0  # of layers of kind DELTA: heads that queries and keys have,
    delta_v_heads: int = 0  # heads that values and states have,
    delta_k_dim: int = 0  # and their sizes: a state is a matrix of these two
    delta_v_dim: int = 0
    head_dim2: int = 0  # of layers of kind ATTENTION2
    n_kv_heads2: int = 0
    kv_shared: int = (
        0  # so many last layers use the keys and values of the last layer of their kind before them
    )
    ffn_dim2: int = 0  # hidden width in those layers, 0 = ffn_dim
    ple_dim: int = 0  # width of what each layer gets of a token's own embedding for it, 0 = nothing
    kinds: bytes = bytes(224)  # of each layer; beyond the 224th all are ATTENTION

    def kind(self, layer):
        return self.kinds[layer] if layer < len(self.kinds) else ATTENTION

    def heads(self, layer):
        """Of an attention layer: its kv heads, the size of a head."""
        second = self.kind(layer) == ATTENTION2
        return (self.n_kv_heads2, self.head_dim2) if second else (self.n_kv_heads, self.head_dim)

    def attends(self, layer):
        return self.kind(layer) in (ATTENTION, ATTENTION2)

    def state_floats(self, layer):
        """Numbers that a layer of kind CONV or DELTA keeps of a sequence: of its convolution's inputs, of its heads' states."""
        state = (
            self.delta_v_heads * self.delta_k_dim * padded(self.delta_v_dim, BLOCK)
            if self.kind(layer) == DELTA
            else 0
        )
        return max(self.conv_len - 1, 1) * padded(self.mixed(layer)[0], GROUP), state

    def kv_layer(self, layer):
        """The layer whose keys and values an attention layer sees: its own, or an earlier one's; None if there is none."""
        own = self.n_layers - self.kv_shared
        return (
            layer
            if layer < own
            else max((i for i in range(own) if self.kind(i) == self.kind(layer)), default=None)
        )

    def ffn(self, layer):
        return (
            self.ffn_dim2 or self.ffn_dim
            if layer >= self.n_layers - self.kv_shared
            else self.ffn_dim
        )

    def mixed(self, layer):
        """Of what comes from a layer's matrix qkv: the columns convolved, those in all, and those of what goes to matrix o."""
        c = self
        if c.kind(layer) == CONV:
            return c.dim, 3 * c.dim, c.dim
        if c.kind(layer) == DELTA:
            values = c.delta_v_heads * c.delta_v_dim
            convolved = 2 * c.delta_k_heads * c.delta_k_dim + values
            return convolved, convolved + values, values
        kv, size = c.heads(layer)
        rows = (
            c.n_heads
            + (2 * kv if c.kv_layer(layer) == layer else 0)
            + (c.n_heads if c.has("attn_gate") else 0)
        )
        return 0, rows * size, c.n_heads * size

    def has(self, flag):
        """True if the optional part named flag (a key of FLAGS) is in the file."""
        return bool(self.flags & FLAGS[flag])

    def pack(self):
        """-> the 512 bytes of the header page's config."""
        body = CONFIG.pack(
            self.arch_tag.encode()[:16],
            *(getattr(self, name) for name in CONFIG_U32),
            *(getattr(self, name) for name in CONFIG_F32),
            self.bos,
            self.eos,
            self.tokenizer_sha256,
            *(getattr(self, name) for name in CONFIG_LAST),
            *(getattr(self, name) for name in CONFIG_MIX),
            self.kinds,
        )
        return body.ljust(512, b"\0")

    @classmethod
    def unpack(cls, raw):
        """512 bytes -> Config, unchecked."""
        tag, *numbers = CONFIG.unpack_from(raw)
        last = ("bos", "eos", "tokenizer_sha256", *CONFIG_LAST, *CONFIG_MIX, "kinds")
        named = dict(zip([*CONFIG_U32, *CONFIG_F32, *last], numbers))
        return cls(tag.rstrip(b"\0").decode("ascii", "replace"), **named)


def _check_config(c):
    for name in CONFIG_U32 + CONFIG_MIX:
        low, high = RANGES.get(name, (0, 0))
        if not low <= getattr(c, name) <= high:
            hint = "" if name in RANGES else "; it needs a newer run.py"
            raise ModelError(
                f"{name} is {str(getattr(c, name))[:40]}, expected {low}..{high}{hint}; export again"
            )
    for name in CONFIG_F32:
        value = getattr(c, name)
        if not math.isfinite(value) or value < 0:
            raise ModelError(
                f"{name} is {value}, expected a finite number, not negative; export again"
            )
        if value and name not in CONFIG_F32_USED:
            raise ModelError(
                f"{name} is {value}, expected 0 in this version; it needs a newer run.py"
            )
    if not (0 <= c.sample_temperature <= 100 and 0 <= c.sample_top_p <= 1):
        found = f"temperature {c.sample_temperature}, top_p {c.sample_top_p}"
        raise ModelError(f"{found}, expected 0 to 100 and 0 to 1; export again")
    if c.temp_len % 1 or c.temp_len > 1 << 30 or bool(c.temp_beta) > bool(c.temp_len):
        raise ModelError(
            f"temp_len is {c.temp_len}, expected a whole number of positions to 2^30; export again"
        )
    if c.n_heads % c.n_kv_heads or c.head_dim % 2:
        heads = f"{c.n_heads} heads over {c.n_kv_heads} of size {c.head_dim}"
        raise ModelError(f"{heads}, expected a divisor and an even size; export again")
    if c.has("head_bias") > c.has("head") or c.rope_long and c.n_rope % 2:
        raise ModelError("flags or rope tables that cannot be together; export again")
    mixed = c.n_experts and (
        c.top_k < 1 or c.top_k > c.n_experts or c.expert_ffn < 8 or c.expert_ffn % 8 or c.dim % 16
    )
    other = c.parallel or c.has("ungated") or c.has("post_norm") or c.has("no_pre_norm")
    if mixed or c.n_experts and other or c.n_experts * max(2 * c.expert_ffn, c.dim) > 1 << 31:
        text = f"{c.n_experts} experts of {c.expert_ffn}, {c.top_k} a token"
        wants = "widths of whole blocks, a gate, norms before and not behind, and no more a token than there are"
        raise ModelError(f"{text}; expected {wants}; export again")
    if not c.n_experts and (
        c.top_k or c.expert_ffn or c.shared_ffn or c.norm_topk or c.has("shared_gate")
    ):
        raise ModelError("parts of a mixture of experts without experts; export again")
    clamped = ACTIVATIONS[c.act] == "clamped"
    if (
        c.has("expert_bias") > bool(c.n_experts)
        or clamped != (c.act_limit > 0)
        or clamped
        and c.has("ungated")
    ):
        raise ModelError(
            "biases of experts without experts, or a limit without its activation and gate; export again"
        )
    if c.qk_after > bool(c.qk_norm):
        raise ModelError("qk_after is 1 without a norm of queries and keys; export again")
    if c.has("shared_gate") > bool(c.shared_ffn):
        raise ModelError("a gate of a shared expert without one; export again")
    if c.n_heads * c.head_dim > 1 << 20:
        raise ModelError(
            f"{c.n_heads} heads of {c.head_dim} are wider than {1 << 20}; export again"
        )
    if not 0 < c.eps < 1:
        raise ModelError(f"eps is {c.eps}, expected a number between 0 and 1; export again")
    for name in ("bos", "eos"):
        if getattr(c, name) != NONE and getattr(c, name) >= c.vocab_size:
            raise ModelError(
                f"{name} is {getattr(c, name)}, expected an id below {c.vocab_size}; export again"
            )
    if any(c.kinds) or c.flags >> 16 or any(getattr(c, name) for name in CONFIG_MIX):
        _check_kinds(c)


def _check_kinds(c):
    """Layers of several kinds: each has what it needs, and nothing is there for a kind that is not."""
    found = set(c.kinds[: c.n_layers])
    if any(c.kinds[c.n_layers :]) or max(found) > ATTENTION2:
        raise ModelError(
            f"kinds of layers {sorted(found)}, expected 0..{ATTENTION2} and zeros behind them; use a newer run.py"
        )
    if bool(c.conv_len) != bool(found & {CONV, DELTA}):
        raise ModelError(
            f"conv_len is {c.conv_len}, expected taps for layers that convolve and for no others; export again"
        )
    sizes = c.delta_k_heads, c.delta_v_heads, c.delta_k_dim, c.delta_v_dim
    wide = max(c.delta_k_heads * c.delta_k_dim, c.delta_v_heads * c.delta_v_dim)
    wrong = any(sizes) and (not all(sizes) or c.delta_v_heads % c.delta_k_heads or wide > 1 << 20)
    if any(sizes) != (DELTA in found) or wrong or c.has("delta_turns") > any(sizes):
        text = f"{sizes[0]} and {sizes[1]} heads of {sizes[2]} and {sizes[3]} in delta layers"
        raise ModelError(
            f"{text}, expected sizes for such layers, the first a divisor of the second; export again"
        )
    if c.delta_k_dim % 4:
        raise ModelError(f"delta_k_dim is {c.delta_k_dim}, expected a multiple of 4; export again")
    second = c.head_dim2, c.n_kv_heads2
    odd = c.head_dim2 % 2 or c.n_heads * c.head_dim2 > 1 << 20 or c.rope_long
    wrong = any(second) and (not all(second) or c.n_heads % c.n_kv_heads2 or odd)
    if any(second) != (ATTENTION2 in found) or wrong:
        text = f"a second kind of attention of {c.n_kv_heads2} heads of {c.head_dim2}"
        raise ModelError(
            f"{text}, expected a divisor of {c.n_heads} and an even size, for such layers; export again"
        )
    shared = range(c.n_layers - c.kv_shared, c.n_layers)
    if c.kv_shared >= c.n_layers or any(not c.attends(i) or c.kv_layer(i) is None for i in shared):
        text = f"kv_shared is {c.kv_shared}"
        raise ModelError(
            f"{text}, expected attention layers, each with one of its kind before them; export again"
        )
    if c.ffn_dim2 and not c.kv_shared or c.ple_dim % 16 or c.n_layers * c.ple_dim > 1 << 22:
        raise ModelError(
            f"ffn_dim2 is {c.ffn_dim2}, ple_dim {c.ple_dim}, expected shared layers, whole blocks; export again"
        )
    if c.ple_dim and (c.n_experts or ACTIVATIONS[c.act] == "clamped"):
        raise ModelError(
            "embeddings of layers beside experts are not run by this version; use a newer run.py"
        )
    if c.parallel or any(
        c.has(flag) for flag in ("qkv_bias", "o_bias", "ungated", "no_pre_norm", "positions")
    ):
        raise ModelError(
            "layers of several kinds with biases, or in parallel, or without norms or gates; use a newer run.py"
        )

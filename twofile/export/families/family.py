"""What tells families apart: names of tensors, kinds of layers, defaults."""

from ...errors import ModelError, printable
from ...format.fields import ATTENTION, DELTA
from ..oldconfig import CONV


def named(prefix, layer, top, parts, head="lm_head"):
    """Names of weights: {ours: theirs}, a layer's with {} for its number, from "ours=theirs …"."""
    pairs = lambda text, before: {
        k: before + v + ".weight" if v else None for k, v in (p.split("=") for p in text.split())
    }
    return {**pairs(top, prefix), **pairs(parts, prefix + layer), "head": head + ".weight"}


def like_llama(parts):
    """The names of Llama on the Hub, but for these; an empty one is not there."""
    return named("model.", "layers.{}.", "embed=embed_tokens out_norm=norm", HUB + parts)


HUB = """an=input_layernorm fn=post_attention_layernorm wq=self_attn.q_proj wk=self_attn.k_proj wv=self_attn.v_proj
wo=self_attn.o_proj qn=self_attn.q_norm kn=self_attn.k_norm w1=mlp.gate_proj w2=mlp.down_proj w3=mlp.up_proj """
HF_NAMES = like_llama("")
META_PARTS = (
    "an=attention_norm fn=ffn_norm wq=attention.wq wk=attention.wk wv=attention.wv wo=attention.wo "
)
META_PARTS += "w1=feed_forward.w1 w2=feed_forward.w2 w3=feed_forward.w3"
META_NAMES = named("", "layers.{}.", "embed=tok_embeddings out_norm=norm", META_PARTS, "output")


def slides(j, layer, otherwise):
    """Whether a layer sees a window only: as layer_types says, or by the family's rule."""
    kinds = j.get("layer_types")
    return kinds[layer] == "sliding_attention" if kinds else otherwise(j, layer)


def tempered(beta, rope):
    """Queries grow with the logarithm of their position, as Llama 4's."""
    return (
        dict(temp_beta=float(beta), temp_len=float(rope["original_max_position_embeddings"]))
        if beta
        else {}
    )


def layer_kinds(full=ATTENTION, rule=lambda j, i: "full_attention"):
    """-> what gives the kind of each layer, as layer_types says, or by the family's rule."""
    known = {
        "full_attention": full,
        "sliding_attention": ATTENTION,
        "conv": CONV,
        "linear_attention": DELTA,
    }

    def kinds(j, n):
        said = j.get("layer_types") or [rule(j, i) for i in range(n)]
        if len(said) != n or n > 224 or set(said) - set(known):
            found = (
                ", ".join(sorted({printable(str(kind)) for kind in said} - set(known)))
                or f"{len(said)} of {n}"
            )
            raise ModelError(
                f"config.json: layer_types: {found}; expected {', '.join(known)} for each of at most 224 layers"
            )
        return bytes(known[kind] for kind in said)

    return kinds


# architecture -> (names, what else differs). norm = "layer"; ones, qk_ones: norms without weights; plus_one: norms that
# store w - 1; interleaved: rotary pairs are neighbours; turned: matrices are stored transposed; grouped: q, k, v lie together
# for each kv head; parallel: attention and feed-forward read the same, or the name of the key that says so; rotary = 0: no
# rotation; backwards: the other way round; shift: first row of positions; skip: ends of names that are no weights; gated:
# wq has a gate behind each head's queries; v_norm; flat: taps are stored in two dims, decays as they are used; in_turns: as
# the flag delta_turns; defaults, refused: what config.json need not and must not say. j is config.json: window(j, layer):
# whether a layer slides; rotates(j, layer); kinds(j, layers): of each layer; ffn(j): its width; more(j): fields of Config.
SOME = lambda j, i: bool(j.get("use_sliding_window")) and i >= j.get("max_window_layers", 0)
EVEN = lambda j, i: i % 2 == 0
FIVE = lambda j, i: bool((i + 1) % j.get("sliding_window_pattern", 6))
FOUR = lambda j, i: bool((i + 1) % 4)
ALL = lambda j, i: True
NEVER = lambda j, i: False
ACTS = {"silu": "silu", "swish": "silu", "relu": "relu", "relu2": "relu2", "gelu": "gelu_erf"}
ACTS |= dict.fromkeys(
    ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"), "gelu_tanh"
)
NEEDED = object()


def first_of(j, *keys, otherwise=None):
    """The first of these keys that is there and not null. Raises KeyError if none is and there is nothing to take otherwise."""
    found = next((j[k] for k in keys if j.get(k) is not None), otherwise)
    if found is NEEDED:
        raise KeyError(keys[0])
    return found


def window_size(size):
    if not 0 <= int(size) < 1 << 31:
        raise ModelError(
            f"a sliding window of {size}, expected 0 to 2^31 - 1; is the configuration damaged?"
        )
    return int(size)

"""What a config.json says, as our Config."""

from ...errors import ModelError, printable
from ...format.config import Config
from ...format.fields import ACTIVATIONS, MANY_KINDS, NONE
from ..arrays import equal
from ..damage import reading
from ..families.rules import NEEDED, first_of
from ..layers.attention import qk_norm
from ..layers.stack import flags
from ..say import say
from ..source import as_declared
from .hubbiases import check_biases
from .hubrope import hub_context, trained_context

GELU_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh")
ACTS = {"silu": "silu", "swish": "silu", "relu": "relu", "relu2": "relu2", "gelu": "gelu_erf"}
ACTS |= dict.fromkeys(GELU_TANH, "gelu_tanh")
LAYERS = "num_hidden_layers", "n_layer", "num_layers"
EPSILON = "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps"


def hub_config(j, w):
    """config.json -> Config, but for the rope tables. w: the weights, under names that agree with
    it afterwards."""
    with reading():
        sizes, act = hub_sizes(j), activation(j, w.form)
        sizes["n_layers"] = layers = int(first_of(j, *LAYERS, otherwise=NEEDED))
        kinds = w.form.kinds(j, layers)
    w.look(kinds)
    check_said(j, w)
    check_biases(j, w, layers)
    parallel = bool(w.form.parallel(j))
    if parallel and not w.has(w.names.fn):
        w.rename(fn=w.names.an)
    tied = is_tied(j, w)
    with reading():
        said = {**hub_numbers(j, w), **hub_experts(j, w), **w.form.numbers(j)}
        numbers = as_declared(said)
    return Config(
        printable(str(j.get("model_type") or "llama"))[:16],
        **sizes,
        norm=int(w.family.layer_norm),
        act=ACTIVATIONS.index(act),
        qk_norm=qk_norm(w, sizes["head_dim"]),
        parallel=int(parallel),
        kinds=kinds.ljust(MANY_KINDS, b"\0"),
        **flags(w, tied),
        **numbers,
    )


def said_class(j):
    """The class that a config.json names, or else its model_type."""
    label = j.get("architectures") or j.get("model_type")
    return str(label[0] if isinstance(label, list) else label)


def hub_sizes(j):
    """The numbers of Config that are widths and heads."""
    get = lambda *keys, otherwise=NEEDED: int(first_of(j, *keys, otherwise=otherwise))
    dim = get("hidden_size", "n_embd")
    heads = get("num_attention_heads", "n_head", "num_heads")
    kv = get("num_key_value_heads", "num_kv_heads", otherwise=heads)
    head_dim = int(j.get("head_dim") or dim // heads)
    return dict(dim=dim, n_heads=heads, n_kv_heads=kv, head_dim=head_dim)


def hub_numbers(j, w):
    """The other numbers of Config that every family has."""
    first = lambda v: (v or [None])[0] if isinstance(v, list) else v
    vocab, ids = int(j["vocab_size"]), {k: first(j.get(f"{k}_token_id")) for k in ("bos", "eos")}
    known = lambda v: isinstance(v, int) and 0 <= v < vocab
    return dict(
        ffn_dim=w.form.ffn(j),
        vocab_size=vocab,
        max_ctx=hub_context(j) if w.family.rotary else trained_context(j),
        eps=float(first_of(j, *EPSILON, otherwise=1e-5)),
        **{k: int(v) if known(v) else NONE for k, v in ids.items()},
    )


def hub_experts(j, w):
    """The numbers of a mixture of experts."""
    if not w.names.router:
        return {}
    if j.get("mlp_only_layers") or j.get("decoder_sparse_step", 1) != 1:
        found = "config.json: layers with experts and layers without are not supported together"
        raise ModelError(f"{found}; expected all with")
    width = first_of(j, "moe_intermediate_size", "intermediate_size", otherwise=NEEDED)
    numbers = dict(
        n_experts=int(first_of(j, "num_experts", "num_local_experts", otherwise=NEEDED)),
        expert_ffn=int(width),
        top_k=int(first_of(j, "num_experts_per_tok", otherwise=NEEDED)),
        norm_topk=int(j.get("norm_topk_prob") or 0),
    )
    if w.has(w.names.shared_gate):
        numbers["shared_ffn"] = int(j["shared_expert_intermediate_size"])
    return numbers | (dict(norm_topk=1) if w.form.norm_topk else {})


def activation(j, form):
    """Of ACTIVATIONS."""
    keys = "hidden_activation", "hidden_act", "activation_function", "activation"
    act = first_of(j, *keys, otherwise="silu")
    act = form.act or ACTS.get(act, act)
    if act not in ACTIVATIONS:
        found = f"config.json: activation {printable(str(act))[:40]!r} is not supported"
        raise ModelError(f"{found}; known: {', '.join(ACTS)}")
    return act


def check_said(j, w):
    """ModelError if config.json asks for what is not run, or for other weights than there are."""
    if w.k_is_v and not j.get("attention_k_eq_v"):
        found = "a layer without values, and config.json does not say attention_k_eq_v"
        raise ModelError(f"{found}; is the source complete?")
    for key in ("quantization_config", *w.form.refused):
        if j.get(key):
            found = printable(str(j[key]))[:60]
            raise ModelError(f"config.json: {key} {found} is not supported; expected none")


def is_tied(j, w):
    """Whether embedding and output are one matrix; it may stand under either name, or both."""
    embed, head, there = w.names.embed, w.names.head, w.has(w.names.head)
    said = first_of(j, "tie_word_embeddings", "tie_embedding")
    tied = w.form.tied if said is None else said
    if there and tied and embed in w.arrays and not equal(w.arrays[embed], w.arrays[head]):
        say(f"config.json ties {head} to {embed}, but they differ: both are kept")
        return False
    if there and tied:
        w.arrays.setdefault(embed, w.arrays[head])
        w.skip += (head,)
    if there or tied:
        return tied
    if said is None and not said_class(j).endswith("Model"):
        say(f"there is no {head}, and config.json does not say why: {embed} is taken for it")
        return True
    found = f"tensor {head} is missing, and config.json does not tie it to {embed}"
    raise ModelError(f"{found}; expected a model that writes; is this its base model alone?")

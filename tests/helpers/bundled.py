"""The model that comes with the program: as a checkpoint of floats, and stories of its own."""

import numpy as np

from helpers.checkpoints import llama2c_file
from helpers.places import ROOT
from twins.weights import read_tensors
from twofile.model import Model
from twofile.modelfile import open_model
from twofile.sampler import log_softmax

LOST = 0.08  # of the root mean square of a group: what a rounding to 4 bits took from it


def bundled_checkpoint(path):
    """Floats of a trained model in a llama2.c file, whose rotary pairs are neighbours; -> path. They are model.bin's weights,
    which are rounded to few bits, with as much noise as that rounding made: numbers that lie on no type's grid."""
    t, c, rng = read_tensors(ROOT / "model.bin"), open_model(ROOT / "model.bin").config, np.random.default_rng(0)
    for name, x in t.items():
        if x.ndim == 2 and x.shape[0] >= c.dim:
            groups = x.reshape(len(x), -1, 32)
            noise = LOST * np.sqrt((groups**2).mean(2, keepdims=True)) * rng.standard_normal(groups.shape)
            t[name] = (groups + noise).reshape(x.shape)
    n, width = c.heads.n * c.heads.size, c.ffn.width
    w = {"tok_embeddings.weight": t["embed"], "norm.weight": t["out_norm.w"]}
    for i in range(c.n_layers):
        at, q, k, v = f"layers.{i}.", *np.split(t[f"l{i}.qkv"], [n, 2 * n])
        apart = lambda x: x.reshape(c.heads.n, 2, -1, c.dim).swapaxes(1, 2).reshape(x.shape)
        for name, x in (("wq", apart(q)), ("wk", apart(k)), ("wv", v), ("wo", t[f"l{i}.o"])):
            w[f"{at}attention.{name}.weight"] = x
        parts = t[f"l{i}.gate_up"][:width], t[f"l{i}.down"], t[f"l{i}.gate_up"][width:]
        w |= {f"{at}feed_forward.w{j}.weight": x for j, x in enumerate(parts, 1)}
        w |= {f"{at}attention_norm.weight": t[f"l{i}.an.w"], f"{at}ffn_norm.weight": t[f"l{i}.fn.w"]}
    shape = dict(dim=c.dim, ffn=width, layers=c.n_layers, heads=c.heads.n, kv=c.heads.kv, vocab=c.vocab_size, ctx=c.max_ctx)
    return llama2c_file(path, {name: np.float32(x) for name, x in w.items()}, tied=True, shape=shape)


def stories(n, seed):
    """The text of n stories."""
    told = Model(ROOT / "model.bin", verbose=False).batch(["Once upon a time"] * n, 250, seed=seed)
    return "\n\n".join(f"Once upon a time{text}".replace("\n\n", "\n") for text in told) + "\n"


def divergence(path, exact, texts):
    """The mean KL divergence from the answers of a model file to those of another, in nats; texts: str, or ids."""
    models, found = [Model(p, verbose=False) for p in (exact, path)], []
    for text in texts:
        want, got = (log_softmax(m.logits((m.tokenize(text) if isinstance(text, str) else text)[:250])) for m in models)
        found.append((np.exp(want) * (want - got)).sum(-1))
    return float(np.concatenate(found).mean())

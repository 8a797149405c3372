"""Biases that a class has, and those that a file holds beside them."""

from ...errors import ModelError, printable
from ..layers.weights import is_zero, one_name

PARTS = dict(
    qkv=("wq", "wk", "wv", "wqkv"),
    o=("wo",),
    mlp=("w1", "w2", "w3", "w13"),
    norm=("an", "fn", "an2", "fn2", "own_an", "own_fn", "out_norm", "embed_norm", "qn", "kn"),
    head=("head",),
)


def check_biases(j, w, layers):
    """Forget biases of zeros that the class does not have; ModelError for others, and if there are
    none where config.json says so."""
    there, always = w.form.biases(j), w.form.biases({})
    layers = min(layers, len(w.arrays))  # whatever config.json says of them
    for part, keys in PARTS.items():
        names = [name for name in (getattr(w.names, key) for key in keys) if name]
        if names and part in there - always:
            one = names[0] if part == "qkv" else names[-1]
            if not w.has(one, bias=True):
                found = f"tensor {one_name(one, w.first, bias=True)} is missing"
                wants = "expected it by what config.json says of biases"
                raise ModelError(f"{found}; {wants}; do they belong together?")
        if part not in there:
            forget(w, names, layers)


def forget(w, names, layers):
    """Forget the biases of these names; ModelError if they are not of zeros."""
    for name in names:
        for i in range(layers if "{}" in name else 1):
            bias = one_name(name, i, bias=True)
            if bias in w.arrays and not is_zero(w.arrays[bias]):
                found = f"tensor {printable(bias)[:80]} is a bias that is not zero"
                wants = "expected none in this class by this config.json"
                raise ModelError(f"{found}; {wants}; do they belong together?")
            if bias in w.arrays:
                del w.arrays[bias]
                w.zeros.append(bias)

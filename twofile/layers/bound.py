"""Names of tensors become matrices and vectors, once: recorders see no names."""

from types import SimpleNamespace

from .kind import Matrix, Vector
from .stack import WHOLE, kind_of, layer_names


def bind(c, tensors):
    """{name: Tensor} -> the model's own matrices and vectors by name, None for those that are not
    there; layers: likewise of each layer, with its index, kind, window and rope_id; tensors."""
    own = {name: named_tensor(tensors, name) for name in WHOLE}
    window, rope_id = (tensors[name].data.view("<i4").tolist() for name in ("window", "rope_id"))
    layers = []
    for i in range(c.n_layers):
        inside = {name: named_tensor(tensors, f"l{i}.{name}") for name in layer_names()}
        what = {"index": i, "kind": kind_of(c, i), "window": window[i], "rope_id": rope_id[i]}
        layers.append(SimpleNamespace(**what, **inside))
    return SimpleNamespace(layers=layers, tensors=tensors, **own)


def named_tensor(tensors, name):
    """The Matrix or the Vector of that name; None if there is none."""
    tensor = tensors.get(name) or tensors.get(f"{name}.w")
    if tensor is None:
        return None
    bias = tensors.get(f"{name}.b")
    if len(tensor.shape) == 1:
        return Vector(tensor.name, tensor, bias)
    return Matrix(name, tensor.type, *tensor.shape, tensor, tensors.get(f"{name}.s"), bias)

"""All tensors of a model from its source's arrays; which flags are set."""

from ...format.fields import ATTENTION, ATTENTION2, CONVOLUTION, DELTA
from .attention import attention, attention_flags
from .convolution import short_convolution
from .delta import delta_flags, delta_rule
from .ends import (
    embedding,
    end_flags,
    layer_norms,
    norm_flags,
    output,
    per_layer,
    per_layer_flags,
    per_model,
)
from .feedforward import expert_flags, experts, feedforward, feedforward_flags

MIXERS = {  # by kind of layer
    ATTENTION: attention,
    CONVOLUTION: short_convolution,
    DELTA: delta_rule,
    ATTENTION2: attention,
}
PARTS = (experts, feedforward, per_layer)
FLAGS_OF = (
    norm_flags,
    attention_flags,
    delta_flags,
    expert_flags,
    feedforward_flags,
    per_layer_flags,
)


def flags(w, tied):
    """{name of a Flag: bool} of the model that w has the weights of; tied: without a head."""
    out = end_flags(w, tied)
    for part in FLAGS_OF:
        out |= part(w)
    return out


def taken(w, c, rotated):
    """{run.py's name: Rows or vector}; refuses what is missing, left over or of another shape."""
    w.begin(c, rotated)
    out = embedding(w, c) | per_model(w, c)
    for i in range(c.n_layers):
        layer = layer_norms(w, c, i)
        for part in (MIXERS[c.kind(i)], *PARTS):
            layer |= part(w, c, i)
        out |= {f"l{i}.{name}": value for name, value in layer.items()}
    out |= output(w, c)
    w.end()
    return out

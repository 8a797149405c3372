"""The feed-forward part of a layer: gate and up, an activation, down."""

from ..errors import ModelError
from ..format.fields import ACTIVATIONS, CLAMPED
from ..kernels.activation import CLAMPED_GATED, FUNCTIONS
from .kind import Part, matrix_slots


class FeedForward(Part):
    """One for all tokens; beside experts, the shared one's."""

    names = ("gate_up", "down")

    def check(self, c):
        clamped = c.ffn.act == CLAMPED
        bias = c.experts and c.experts.bias and not c.experts.n
        if bias or clamped != (c.ffn.limit > 0) or clamped and not c.ffn.gated:
            found = "biases of experts without experts, or a limit without its activation and gate"
            raise ModelError(f"{found}; export again")

    def width(self, c, i):
        """Hidden columns of layer i."""
        if c.experts:
            return c.experts.shared
        last = c.shared and c.shared.width and i >= c.n_layers - c.shared.layers
        return c.shared.width if last else c.ffn.width

    def tensors(self, c, i):
        width = self.width(c, i)
        if not width:
            return []
        return [
            *matrix_slots(f"l{i}.gate_up", ((1 + c.ffn.gated) * width, c.dim), c.ffn.up_bias),
            *matrix_slots(f"l{i}.down", (c.dim, width), c.ffn.down_bias),
        ]


def activate(p, x, width, to, count=None):
    """The feed-forward's hidden row x becomes the input of a matrix: to."""
    c = p.config.ffn
    kernel = FUNCTIONS[ACTIVATIONS[c.act]][c.gated]
    clamp = {"alpha": c.alpha, "limit": c.limit} if kernel.operands is CLAMPED_GATED else {}
    more = {"count": count} if count else {}
    p.add(kernel, x=x, width=width, **clamp, **more, **to)


def record_hidden(p, layer):
    """gate_up of the normed stream -> the Place of its rows."""
    p.norm(p.x, layer.fn, layer.gate_up)
    out = p.floats("gate_up", layer.gate_up.rows)
    p.matmul(out, layer.gate_up)
    return out


def record_down(p, layer, hidden):
    """The stream += down of the activated rows."""
    activate(p, hidden, layer.down.cols, p.input(layer.down))
    p.join(layer.down, layer.fn2)

"""The feed-forward part of a layer, also as a mixture of experts."""

from ..errors import ModelError
from ..format.fields import ACTIVATIONS, CLAMPED
from ..kernels.activation import CLAMPED_GATED, FUNCTIONS
from ..kernels.experts import combine, gated_add, gather, route
from ..program.operands import N_PAIRS
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


class Experts(Part):
    """Of every layer, if the config has experts."""

    names = ("router", "experts_up", "experts_down", "shared_gate")

    def check(self, c):
        e = c.experts
        if not e:
            return
        if not e.n:
            if e.chosen or e.width or e.shared or e.normed or e.shared_gate:
                raise ModelError("parts of a mixture of experts without experts; export again")
            return
        few = e.chosen < 1 or e.chosen > e.n or e.width < 8 or e.width % 8 or c.dim % 16
        other = c.parallel or not c.ffn.gated or c.norms.post or not c.norms.pre
        if few or other or e.n * max(2 * e.width, c.dim) > 1 << 31:
            found = f"{e.n} experts of {e.width}, {e.chosen} a token"
            wants = (
                "widths of whole blocks, a gate, norms before and not behind, and no more a token"
            )
            raise ModelError(f"{found}; expected {wants} than there are; export again")
        if e.shared_gate > bool(e.shared):
            raise ModelError("a gate of a shared expert without one; export again")

    def tensors(self, c, i):
        e = c.experts
        if not e:
            return []
        return [  # the rows of expert after expert
            *matrix_slots(f"l{i}.router", (e.n, c.dim), e.bias, small=True),
            *matrix_slots(f"l{i}.experts_up", (e.n * 2 * e.width, c.dim), e.bias, whole=True),
            *matrix_slots(f"l{i}.experts_down", (e.n * c.dim, e.width), e.bias, whole=True),
            *(matrix_slots(f"l{i}.shared_gate", (1, c.dim), small=True) if e.shared_gate else []),
        ]


def record_mixture(p, layer):
    """The stream += the chosen experts' opinions, by weight, and the shared one's."""
    e, x, up, down = p.config.experts, p.x, layer.experts_up, layer.experts_down
    readers = [layer.router, up, layer.shared_gate, layer.gate_up]
    p.norm(x, layer.fn, *[matrix for matrix in readers if matrix])
    router, pairs = p.floats("router", e.n), p.sizes.pairs
    p.matmul(router, layer.router)
    tables = p.rows("routes", 8 * (3 * pairs + 4 * e.n + 1), 1)
    chosen = {"chosen": e.chosen, "room": pairs}
    p.add(route, x=router, tables=tables, experts=e.n, normed=e.normed, **chosen)
    spread(p, up, tables)
    runs = tables.columns(2 * (3 * pairs + e.n))
    hidden, said = p.pairs("pair_x", up.rows // e.n), p.pairs("pair_x", down.rows // e.n)
    p.experts(hidden, up, runs)
    activate(p, hidden, e.width, p.input(down, pairs=True), N_PAIRS)
    p.experts(said, down, runs)
    to = {"out": x, "width": p.config.dim, "gain": p.config.resid_scale or 1.0}
    if layer.shared_gate:
        gate = p.floats("router", 1)
        p.matmul(gate, layer.shared_gate)
    if layer.gate_up:
        shared = p.floats("gate_up", layer.gate_up.rows)
        p.matmul(shared, layer.gate_up)
    p.add(combine, x=said, tables=tables, **to, **chosen)
    if layer.gate_up:
        activate(p, shared, layer.down.cols, p.input(layer.down))
    if layer.shared_gate:
        p.matmul(p.branch, layer.down)
        p.add(gated_add, x=p.branch, gate=gate, **to)
    elif layer.gate_up:
        p.matmul(x, layer.down, add=True, gain=to["gain"])


def spread(p, matrix, tables):
    """The input of the tokens becomes that of their pairs with experts."""
    there, here = p.input(matrix), p.input(matrix, pairs=True)
    parts = [name for name in ("out", "q", "qs", "qc", "qm", "qh") if name in here]
    for name in parts:
        more = {"nbytes": here[name].step, "wait": name == parts[-1]}
        p.add(gather, x=there[name], out=here[name], tokens=tables, **more)

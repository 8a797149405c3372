"""A program that knows what layers are made of: matrices, norms, the stream."""

from ..format.types import BLOCK, GROUP, padded
from ..kernels.experts import EXPERT_MATMULS
from ..kernels.matmul import MATMULS
from ..kernels.norm import NORMS
from ..kernels.rows import convert
from ..program.buffers import Mapped, Place
from ..program.cache import Cache
from ..program.operands import CHUNK, N_PAIRS, N_TOKENS, N_WANTED
from ..program.program import Program


class Recorder(Program):
    """A Program for one model. x: the residual stream; branch: what is normed before it joins;
    cache: what layers keep of the tokens before."""

    def __init__(self, config, sizes, kind, kept):
        super().__init__(sizes)
        self.config, self.cache = config, Cache(self, kind, kept)
        self.x, self.branch = self.floats("x", config.dim), self.floats("branch", config.dim)

    def floats(self, name, width, many=CHUNK):
        """A shared room for rows of so many float32."""
        return self.rows(name, 4 * padded(width, GROUP), many)

    def pairs(self, name, width):
        """As floats, for a row for each pair of token and expert."""
        return self.floats(name, width, self.sizes.pairs)

    def vector(self, tensor, multiple=GROUP):
        """The Place of a padded copy of a tensor of float32 numbers."""
        return self.constant(tensor.name, tensor.data.view("<f4"), multiple)

    def weights(self, piece, cols):
        """The operands w, cols and what is beside it, of a piece of a matrix of so many columns."""
        names = {".s": "scales", ".d": "above"}
        more = {names[end]: Place(Mapped(tensor)) for end, tensor in piece.beside.items()}
        return {"w": Place(Mapped(piece.data)), "cols": piece.type.columns(cols), **more}

    def taken(self, kind, cols, pairs=False):
        """Where a matmul with weights of a Type takes its input of so many columns: its operands.
        pairs: of experts, by pair."""
        many, named = (self.sizes.pairs, "pair_") if pairs else (CHUNK, "")
        if not kind.quantised:
            return {"x": self.rows(named + "xb", 4 * padded(cols, GROUP), many)}
        groups = padded(cols, GROUP) // GROUP
        sizes = {"q": GROUP, "qs": 4, "qc": 4, "qm": 4, "qh": 8}
        return {name: self.rows(named + name, groups * n, many) for name, n in sizes.items()}

    def input(self, *readers, pairs=False):
        """Where the input of matrices goes: the operands of INPUT."""
        places = {}
        for matrix in readers:
            places["cols"] = padded(matrix.cols, GROUP)
            for piece in matrix.pieces:
                places |= self.taken(piece.type, matrix.cols, pairs)
        return {"out" if name == "x" else name: place for name, place in places.items()}

    def convert(self, x, *readers):
        """x becomes the input of matrices."""
        self.add(convert, x=x, **self.input(*readers))

    def norm(self, x, norm, *readers, out=None, take=None):
        """The normed x becomes the input of matrices, or is added to out. Without a norm: x
        itself. take: the Place of the tokens to take; then there are as many rows as are wanted."""
        if norm is None:
            return self.convert(x, *readers)
        to = self.input(*readers) if readers else {"out": out, "cols": out.step // 4}
        self.normed(x, norm, False, to, take)

    def normed(self, x, norm, adding, to, take=None):
        """The record of a norm, as the config has them; adding: to what stands there."""
        c = self.config
        bias = norm.bias and self.vector(norm.bias)
        more = {"take": take, "width": c.dim, "eps": c.norms.eps}
        kernel, count = NORMS[c.norms.centred][adding], N_WANTED if take else N_TOKENS
        self.add(kernel, count, x=x, weight=self.vector(norm.data), bias=bias, **more, **to)

    def matmul(self, out, matrix, add=False, gain=1.0, count=N_TOKENS):
        """out = gain * (matrix @ input + bias), or out += that, piece by piece."""
        bias = matrix.bias and self.vector(matrix.bias, BLOCK)
        for piece in matrix.pieces:
            given = {**self.taken(piece.type, matrix.cols), **self.weights(piece, matrix.cols)}
            given |= {"n_rows": padded(piece.rows, BLOCK), "add": int(add), "gain": gain}
            given |= {"bias": bias and bias.columns(piece.first), "out": out.columns(piece.first)}
            self.add(MATMULS[piece.type], count, wait=piece is matrix.pieces[-1], **given)

    def experts(self, out, matrix, runs):
        """Each pair's row of out = its expert's rows of matrix @ its input."""
        n, (piece,) = self.config.experts.n, matrix.pieces
        given = {**self.taken(piece.type, matrix.cols, pairs=True), "experts": n}
        biases = matrix.bias and self.vector(matrix.bias, BLOCK)
        more = {"gain": 1.0, "n_rows": matrix.rows // n, "runs": runs, "biases": biases}
        given |= self.weights(piece, matrix.cols)
        self.add(EXPERT_MATMULS[piece.type], N_PAIRS, out=out, **more, **given)

    def join(self, matrix, norm):
        """The stream += matrix @ its input, normed if there is such a norm."""
        if norm is None:
            return self.matmul(self.x, matrix, add=True, gain=self.config.resid_scale or 1.0)
        self.matmul(self.branch, matrix)
        to = {"out": self.x, "cols": self.x.step // 4}
        self.normed(self.branch, norm, True, to)

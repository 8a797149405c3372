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

    def weights(self, matrix):
        """The operands w, scales and cols of a matrix."""
        scales = {"scales": Place(Mapped(matrix.scales))} if matrix.type.quantised else {}
        return {"w": Place(Mapped(matrix.data)), "cols": matrix.type.columns(matrix.cols), **scales}

    def input(self, *readers, pairs=False):
        """Where the input of matrices goes: the operands of INPUT. pairs: of experts, by pair."""
        many, named = (self.sizes.pairs, "pair_") if pairs else (CHUNK, "")
        places = {}
        for matrix in readers:
            cols = padded(matrix.cols, GROUP)
            places["cols"] = cols
            if matrix.type.quantised:
                places["q"] = self.rows(named + "q", cols, many)
                places["qs"] = self.rows(named + "qs", cols // GROUP * 4, many)
                places["qc"] = self.rows(named + "qc", cols // GROUP * 4, many)
            else:
                places["out"] = self.rows(named + "xb", 4 * cols, many)
        return places

    def given(self, matrix, pairs=False):
        """The operands of a matmul that say where its input is."""
        places = self.input(matrix, pairs=pairs)
        return {"x" if name == "out" else name: p for name, p in places.items() if name != "cols"}

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
        """out = gain * (matrix @ input + bias), or out += that."""
        given = {**self.given(matrix), **self.weights(matrix)}
        bias = matrix.bias and self.vector(matrix.bias, BLOCK)
        rows = padded(matrix.rows, BLOCK)
        kernel = MATMULS[matrix.type]
        self.add(kernel, count, out=out, bias=bias, gain=gain, add=int(add), n_rows=rows, **given)

    def experts(self, out, matrix, runs):
        """Each pair's row of out = its expert's rows of matrix @ its input."""
        n = self.config.experts.n
        given = {**self.given(matrix, pairs=True), **self.weights(matrix), "experts": n}
        biases = matrix.bias and self.vector(matrix.bias, BLOCK)
        more = {"gain": 1.0, "n_rows": matrix.rows // n, "runs": runs, "biases": biases}
        self.add(EXPERT_MATMULS[matrix.type], N_PAIRS, out=out, **more, **given)

    def join(self, matrix, norm):
        """The stream += matrix @ its input, normed if there is such a norm."""
        if norm is None:
            return self.matmul(self.x, matrix, add=True, gain=self.config.resid_scale or 1.0)
        self.matmul(self.branch, matrix)
        to = {"out": self.x, "cols": self.x.step // 4}
        self.normed(self.branch, norm, True, to)

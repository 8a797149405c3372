"""What a part of a model is: its tensors in the file, and in memory."""

from typing import NamedTuple


class Slot(NamedTuple):
    """A tensor that the config calls for. role: "matrix" (rows = outputs; any of MATRIX_TYPES, a
    quantised one followed by what is beside it; perhaps in pieces by rows, NAME, NAME.1, ...), or
    the name of the Type that it has. small: a matrix of so few numbers that it stays as exact as
    it can be. whole: one that is never in pieces, because its rows are taken by number."""

    name: str
    shape: tuple
    role: str
    small: bool = False
    whole: bool = False


class Kept(NamedTuple):
    """What a layer keeps of a sequence: of each position, for heads of them, so many numbers of the
    cache's type (it can be cut to fewer positions); or, cut False, float32 numbers in all: a state,
    which its kernel begins anew at position 0, since rooms are zeroed once."""

    name: str
    heads: int
    numbers: int
    cut: bool = True


class Piece(NamedTuple):
    """Rows of a matrix, from the first on, of a Type; data: a Tensor; beside: those that belong to
    it, by what their names end with."""

    type: object
    first: int
    rows: int
    data: object
    beside: dict


class Matrix(NamedTuple):
    """A matrix of the file, [rows, cols], in pieces by rows; bias is a Tensor or None."""

    name: str
    rows: int
    cols: int
    pieces: tuple
    bias: object


class Vector(NamedTuple):
    """float32 numbers of the file: of a norm, perhaps with a bias. data and bias are Tensors."""

    name: str
    data: object
    bias: object

    def floats(self):
        return self.data.data.view("<f4")


class Kind:
    """A kind of layer: how the tokens of a text learn of each other. A subclass says all of it.

    number: in the file's list of kinds. names: of its tensors, but for the layer's number; they are
    attributes of a Layer, None where the file has none.
    """

    number = 0
    names = ()
    convolves = False  # whether it needs the config's taps

    def check(self, c, layers):
        """ModelError unless the config has what such layers need; layers: those of this kind, []
        if there are none: then nothing must be there for them."""

    def rows(self, c, i):
        """Rows of matrix qkv of layer i."""
        raise NotImplementedError

    def wide(self, c, i):
        """Columns of matrix o: of what the layer makes."""
        raise NotImplementedError

    def behind(self, c, i):
        """Columns behind those of qkv in a token's row: what a gate before matrix o is for."""
        return 0

    def tensors(self, c, i):
        """[Slot] in the order of the file, from matrix qkv to matrix o."""
        raise NotImplementedError

    def keeps(self, c, i):
        """[Kept]"""
        return []

    def readers(self, layer):
        """The matrices that read the normed stream."""
        return [layer.qkv]

    def record(self, p, layer, row):
        """Its kernels, from row (what matrix qkv made) on. -> what makes the input of matrix o: a
        function of no arguments that records it."""
        raise NotImplementedError


class Part:
    """Another part of every layer, or of the whole model."""

    names = ()

    def check(self, c):
        """ModelError unless its numbers can be together."""

    def tensors(self, c, i):
        """[Slot] in the order of the file, of layer i."""
        return []


def matrix_slots(name, shape, bias=False, small=False, whole=False):
    """The slots of a matrix."""
    biases = [Slot(f"{name}.b", shape[:1], "f32")] if bias else []
    return [Slot(name, shape, "matrix", small, whole), *biases]


def piece_name(name, number):
    """What a piece of a matrix is called, by its number from 0 on."""
    return f"{name}.{number}" if number else name


def norm_slots(c, name, there=True):
    """The slots of a norm of the stream."""
    parts = ("w", "b") if c.norms.bias else ("w",)
    return [Slot(f"{name}.{part}", (c.dim,), "f32") for part in parts if there]

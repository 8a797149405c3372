"""A word that kernels are written in."""


class Word:
    """A word of the kernels: emit(builder, operands) writes its LLVM instructions.

    The signature has a letter for each argument, an arrow, the result. F, I, N: a tile of T vectors
    of 16 float32, of 16 int32, of partial sums of 4-bit products; B: 64 bytes; f: float32; d:
    float64; i: int32; p: int64 or an address; v: nothing; a: an address and a stride in bytes, so
    that each vector of the tile has its own address. emit sees one vector at a time. T is that of
    the widest tile among the arguments (a single vector meets a tile by repetition), or the digit
    of the result.
    """

    def __init__(self, signature, emit):
        self.signature, self.emit = signature, emit

    def __call__(self, *args):
        raise RuntimeError("words exist only inside compiled kernels")

    def write(self, machine, b, *operands):
        """-> the value that the instructions give, on that machine."""
        return self.emit(b, *operands)


class MachineWord(Word):
    """A word that machines say in different ways: emit(machine, builder, operands)."""

    def write(self, machine, b, *operands):
        return self.emit(machine, b, *operands)

"""A source's arrays under its family's names: there, taken, left over."""

from dataclasses import replace

from ...errors import ModelError, printable
from ...format.fields import ATTENTION, ATTENTION2
from ..arrays import Rows, to_float32


def one_name(name, layer=0, expert=0, bias=False):
    """The name of one weight, or of the bias beside it."""
    name = name.format(layer, expert)
    return name.removesuffix("weight") + "bias" if bias else name


class Weights:
    """arrays: {name of the source: array or part}. family, form: a Family, and its Form in this
    kind of source. label: what errors call it."""

    def __init__(self, family, form, arrays, label):
        self.family, self.form, self.arrays, self.label = family, form, arrays, label
        self.names, self.skip = form.names, (*form.skip, "rotary_emb.inv_freq")
        self.left = set()  # names that nothing has taken yet
        self.rotated = 0  # columns of a head that turn
        # the first layer of attention, which shows what such layers have; whether the second kind's
        # values are its keys
        self.first, self.k_is_v = 0, False
        if self.has(self.names.own_an):
            self.rename(an=self.names.own_an, fn=self.names.own_fn)

    def rename(self, **names):
        """Look for these under other names from now on."""
        self.names = replace(self.names, **names)

    def look(self, kinds):
        """Learn from the kinds of layers what self.first and self.k_is_v say."""
        self.first = next((i for i, kind in enumerate(kinds) if kind in (ATTENTION, ATTENTION2)), 0)
        second = kinds.find(ATTENTION2)
        self.k_is_v = second >= 0 and one_name(self.names.wv, second) not in self.arrays

    def has(self, name, bias=False):
        """Whether the first layer of attention has this weight, or its bias."""
        return name is not None and one_name(name, self.first, 0, bias) in self.arrays

    def begin(self, c, rotated):
        """Before tensors are taken: nothing is yet, but what nobody needs."""
        self.rotated = rotated
        self.left = {name for name in self.arrays if not name.endswith(self.skip)}
        names = self.names
        for i in range(c.n_layers - (c.shared.layers if c.shared else 0), c.n_layers):
            # some files have what these layers do not use
            self.left -= {one_name(name, i) for name in (names.wk, names.wv, names.kn) if name}

    def take(self, name, shape, layer=0, bias=False, expert=0):
        """The array of this name, which must be there and of this shape."""
        whole = name in (self.names.embed, self.names.positions, self.names.head)
        name = one_name(name, layer, expert, bias)
        if name not in self.arrays:
            raise ModelError(f"tensor {name} is missing; expected {shape}; is the source complete?")
        array = self.arrays[name]
        if self.form.turned and len(shape) == 2 and not whole:
            array = array.T
        if tuple(array.shape) != shape:
            found = f"tensor {name} is {array.shape}, expected {shape}"
            raise ModelError(f"{found}; do config and weights belong together?")
        self.left.discard(name)
        return array

    def floats(self, name, shape, layer=0):
        """float32 array of this shape."""
        return to_float32(self.take(name, shape, layer))

    def end(self):
        """ModelError if something was not taken."""
        if self.left:
            some = ", ".join(printable(name)[:60] for name in sorted(self.left)[:3])
            text = f"{len(self.left)} tensors were not used: {some}; expected a plain {self.label}"
            raise ModelError(f"{text}; is it another architecture?")


def whole(*parts):
    """float32 array: the parts of Rows, one after the other."""
    rows = Rows(*parts)
    return rows.read(0, len(rows))

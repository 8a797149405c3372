"""A source's arrays under its family's names: there, taken, left over."""

import re
from dataclasses import replace

import numpy as np

from ...errors import ModelError, printable
from ...format.fields import ATTENTION, ATTENTION2
from ..arrays import PLAIN, Rows, Unread, counts, of_numbers, to_float32, type_name
from ..say import say

# what no family reads: tables of angles, positions of tokens
TABLES = re.compile(
    r"(^|\.)(rotary_emb|rotary_pos_emb)\.|(^|\.)(inv_freq|position_ids|attn_rot_embd\.weight)$"
)
# nor these, which may mean something elsewhere: scales of a cache, heads of trainers
FOREIGN = re.compile(r"\.[qkv]_scale$|\.kv_scale$|\.prob_scale$|(^|\.)(v_head|value_head)\.")


def one_name(name, layer=0, expert=0, bias=False):
    """The name of one weight, or of the bias beside it."""
    name = name.format(layer, expert)
    return name.removesuffix("weight") + "bias" if bias else name


class Weights:
    """arrays: {name of the source: array or part}. family, form: a Family, and its Form in this
    kind of source. label: what errors call it."""

    def __init__(self, family, form, arrays, label):
        self.family, self.form, self.arrays, self.label = family, form, arrays, label
        self.names, self.skip = form.names, form.skip
        self.left = set()  # names that nothing has taken yet
        self.zeros = []  # biases that a reader left out, which would change nothing
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
        self.left = {name for name in self.left if not TABLES.search(name)}
        names = self.names
        for i in range(c.n_layers - (c.shared.layers if c.shared else 0), c.n_layers):
            # some files have what these layers do not use
            self.left -= {one_name(name, i) for name in (names.wk, names.wv, names.kn) if name}

    def take(self, name, shape, layer=0, bias=False, expert=0, packed=False):
        """The array of this name, which must be there, of this shape and of numbers; packed: of
        bytes that hold some."""
        whole = name in (self.names.embed, self.names.positions, self.names.head)
        name = one_name(name, layer, expert, bias)
        if name not in self.arrays:
            check_plain(name, self.arrays)
            raise ModelError(f"tensor {name} is missing; expected {shape}; is the source complete?")
        array = self.arrays[name]
        check_type(name, array, packed)
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
        """ModelError if something was not taken that may mean something."""
        idle = {name for name in self.left if FOREIGN.search(name) or counts(self.arrays[name])}
        idle |= {name for name in self.left - idle if self.is_zero_bias(name)}
        if self.left - idle:
            left = self.left - idle
            text = f"{len(left)} tensors were not used: {some_of(left)}"
            raise ModelError(f"{text}; expected a plain {self.label}; is it another architecture?")
        self.say_left_out([*idle, *self.zeros])

    def is_zero_bias(self, name):
        return name.endswith("bias") and is_zero(self.arrays[name])

    def say_left_out(self, names):
        if names:
            found = f"{len(names)} tensors are left out, which a {self.label} does not read"
            say(f"{found}: {some_of(names)}")


def some_of(names):
    """The first three of some names, in words."""
    return ", ".join(printable(name)[:60] for name in sorted(names)[:3])


def is_zero(array):
    """Whether a vector is of exact zeros."""
    return len(array.shape) == 1 and of_numbers(array) and not np.any(to_float32(array))


def check_plain(name, arrays):
    """ModelError if what is missing under this name is there in another form."""
    packed = [
        name.removesuffix("weight") + end for end in ("qweight", "weight_packed", "weight.nf4")
    ]
    there = [other for other in packed if other in arrays]
    if there:
        found = f"tensor {printable(name)[:80]} is missing, but there is {printable(there[0])[:80]}"
        raise ModelError(f"{found}; expected {PLAIN}")


def check_type(name, array, packed=False):
    """ModelError if an array is not of numbers that we read; packed: of bytes."""
    if packed and isinstance(array, np.ndarray) and array.dtype == np.uint8:
        return
    if packed or not of_numbers(array):
        named = isinstance(array, Unread) and not packed
        where, wants = (f"{printable(array.file)}: ", array.wants) if named else ("", PLAIN)
        found = f"{where}tensor {printable(name)[:80]} has type {printable(type_name(array))[:40]}"
        raise ModelError(
            f"{found}; expected {'uint8 of MXFP4; is it damaged?' if packed else wants}"
        )


def whole(*parts):
    """float32 array: the parts of Rows, one after the other."""
    rows = Rows(*parts)
    return rows.read(0, len(rows))

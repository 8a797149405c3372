"""Pickles of tensors, read without running what is pickled in them."""

import io
import math
import os
import pickletools

import numpy as np

from ...errors import ModelError, printable
from ..damage import Told

TORCH_TYPES = {
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Double": "<f8",
    "Long": "<i8",
    "Int": "<i4",
    "Bool": "?",
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "ComplexFloat": "<c8",
    "ComplexDouble": "<c16",
}
PICKLED_VALUES = (
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
PICKLED_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PICKLED_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
MOST_STEPS = 2_000_000


class Named(Told):
    """What a pickle asks for by name, of the few things that are known."""

    def __init__(self, name):
        module, _, what = name.rpartition(" ")
        stores = module == "torch" and what.endswith("Storage")
        self.storage = TORCH_TYPES.get(what.removesuffix("Storage")) if stores else None
        self.make = {
            "collections OrderedDict": lambda: {},
            "torch._utils _rebuild_tensor_v2": rebuild_tensor,
            "torch._utils _rebuild_parameter": lambda tensor, *rest: tensor,
        }.get(name)
        if not self.make and not self.storage:
            what = printable(name.replace(" ", "."))[:80]
            found = f"the checkpoint asks for {what}"
            raise ModelError(f"{found}, expected only tensors and plain values; refused")


def unpickle(raw, storages):
    """The value that the pickle of a torch checkpoint describes. storages: key -> its mapped bytes.

    Python's pickle is not used: it would call what the file names, and a few bytes can make it fill
    the memory. This reads the two dozen instructions that torch.save writes for tensors and plain
    values, and refuses all others. What a pickle that is none trips over goes up as it is.
    """
    return Unpickler(storages).run(raw)


class Unpickler:
    """The machine that a pickle is a program of: a stack, marks in it, and a memo."""

    def __init__(self, storages):
        self.stack, self.marks, self.memo, self.storages = [], [], {}, storages
        self.room = 3 * sum(map(len, storages.values()))  # bytes that tensors may take

    def run(self, raw):
        for n, (op, value, _) in enumerate(pickletools.genops(raw), 1):
            name = op.name
            if n > MOST_STEPS:
                found = "the checkpoint's pickle has more than two million instructions"
                raise ModelError(f"{found}; expected weights; refused")
            if name == "STOP":
                return self.stack.pop()
            if name in PICKLED_CONSTANTS:
                self.stack.append(PICKLED_CONSTANTS[name])
            elif name in PICKLED_EMPTY:
                self.stack.append(PICKLED_EMPTY[name]())
            elif name in PICKLED_VALUES:
                self.stack.append(value)
            elif name in STEPS:
                STEPS[name](self, value)
            elif name not in ("PROTO", "FRAME"):
                found = f"the checkpoint's pickle uses {name}"
                raise ModelError(f"{found}, expected only tensors and plain values; refused")
        raise ModelError("the checkpoint's pickle has no end; is the download complete?")

    def put(self, at):
        self.memo[len(self.memo) if at is None else at] = self.stack[-1]

    def get(self, at):
        self.stack.append(self.memo[at])

    def named(self, name):
        self.stack.append(Named(name))

    def named_by_stack(self, _):
        what, module = self.stack.pop(), self.stack.pop()
        both = isinstance(module, str) and isinstance(what, str)
        self.named(f"{module} {what}" if both else "?")

    def storage(self, _):
        self.stack.append(stored(self.stack.pop(), self.storages))

    def call(self, _):
        given, what = self.stack.pop(), self.stack.pop()
        made = what.make(*given)
        self.stack.append(made)
        self.room -= made.nbytes if isinstance(made, np.ndarray) else 0
        if self.room < 0:
            found = "the checkpoint's tensors are larger than what it stores"
            raise ModelError(f"{found}; is it damaged?")

    def mark(self, _):
        self.marks.append(len(self.stack))

    def gathered(self, count):
        """Take so many items off the stack; None: those behind the last mark."""
        begin = max(self.marks.pop() if count is None else len(self.stack) - count, 0)
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def tuple_of(self, count):
        self.stack.append(tuple(self.gathered(count)))

    def append(self, count):
        items = self.gathered(count)
        self.stack[-1].extend(items)

    def set_items(self, count):
        items = self.gathered(count)
        if any(not isinstance(key, (str, int)) for key in items[::2]):
            found = "the checkpoint has a key that is no name"
            raise ModelError(f"{found}; expected weights by name; is it damaged?")
        self.stack[-1].update(zip(items[::2], items[1::2]))

    def build(self, _):
        self.stack.pop()  # attributes of a dict, which nobody needs


STEPS = {  # instruction -> what it does, given its argument
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), Unpickler.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Unpickler.get),
    "GLOBAL": Unpickler.named,
    "STACK_GLOBAL": Unpickler.named_by_stack,
    "BINPERSID": Unpickler.storage,
    "REDUCE": Unpickler.call,
    "MARK": Unpickler.mark,
    "TUPLE": Unpickler.tuple_of,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPENDS": Unpickler.append,
    "APPEND": lambda machine, _: machine.append(1),
    "SETITEMS": Unpickler.set_items,
    "SETITEM": lambda machine, _: machine.set_items(2),
    "BUILD": Unpickler.build,
}


def stored(pid, storages):
    """What torch writes for a storage: ("storage", its type, key, place, elements) -> (its bytes,
    dtype)."""
    known = isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"
    known = known and isinstance(pid[2], str)
    if known and isinstance(pid[1], Named) and pid[1].storage and pid[2] in storages:
        return storages[pid[2]], pid[1].storage
    key = printable(pid[2])[:40] if known else "?"
    raise ModelError(f"the checkpoint names a storage {key}, which is not in it; is it damaged?")


def rebuild_tensor(storage, offset, size, stride, *rest):
    """A view of the mapped storage; its extent is checked in Python ints."""
    raw, dtype = storage
    flat = raw[: len(raw) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    numbers = (offset, *size, *stride)
    whole = all(isinstance(n, int) and 0 <= n < 1 << 62 for n in numbers)
    if len(size) != len(stride) or len(size) > 8 or not whole:
        raise ModelError("a tensor's sizes are no whole numbers; is the checkpoint damaged?")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and (last >= len(flat) or math.prod(size) > len(flat)):
        found = f"a tensor of {size} at {offset} reaches past its {len(flat)} values"
        raise ModelError(f"{found}; is the checkpoint damaged?")
    if 0 in size:
        return flat[:0].reshape(size)
    strides = [s * flat.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)


class Bounded(io.FileIO):
    """A file of which no more than 4 MiB are read at once: the list of members of a zip file may
    promise to be anything."""

    def read(self, n=-1):
        if (os.fstat(self.fileno()).st_size - self.tell() if n is None or n < 0 else n) > 4 << 20:
            found = "a zip archive whose list of members is too long"
            raise ModelError(f"{found}; expected a torch checkpoint; is it damaged?")
        return super().read(n)

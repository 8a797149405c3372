"""Pickles of tensors, read without running what is pickled in them."""

import io
import math
import os
import pickletools

import numpy as np

from ...errors import ModelError, printable

TORCH_TYPES = {
    "Float": "<f4",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Double": "<f8",
    "Long": "<i8",
    "Int": "<i4",
    "Bool": "?",
}
TORCH_TYPES |= {"Byte": "u1", "Char": "i1", "Short": "<i2"}
PICKLED_VALUES = (
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
PICKLED_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PICKLED_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


class Named:
    """What a pickle asks for by name, of the few things that are known."""

    def __init__(self, name):
        module, _, what = name.rpartition(" ")
        self.storage = (
            TORCH_TYPES.get(what.removesuffix("Storage"))
            if module == "torch" and what.endswith("Storage")
            else None
        )
        self.make = {
            "collections OrderedDict": lambda: {},
            "torch._utils _rebuild_tensor_v2": rebuild_tensor,
        }.get(name)
        if not self.make and not self.storage:
            what = printable(name.replace(" ", "."))[:80]
            raise ModelError(
                f"the checkpoint asks for {what}, expected only tensors and plain values; refused"
            )


def unpickle(raw, storages):
    """The value that the pickle of a torch checkpoint describes. storages: key -> its mapped bytes.

    Python's pickle is not used: it would call what the file names, and a few bytes can make it fill the memory. This reads
    the two dozen instructions that torch.save writes for tensors and plain values, and refuses all others.
    """
    stack, marks, memo, n, room = [], [], {}, 0, 3 * sum(map(len, storages.values()))
    for op, value, _ in pickletools.genops(raw):
        name, n = op.name, n + 1
        if n > 2_000_000:
            raise ModelError(
                "the checkpoint's pickle has more than two million instructions; expected weights; refused"
            )
        if name in PICKLED_CONSTANTS:
            stack.append(PICKLED_CONSTANTS[name])
        elif name in PICKLED_EMPTY:
            stack.append(PICKLED_EMPTY[name]())
        elif name in PICKLED_VALUES:
            stack.append(value)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if value is None else value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "GLOBAL":
            stack.append(Named(value))
        elif name == "STACK_GLOBAL":
            what, module = stack.pop(), stack.pop()
            stack.append(
                Named(
                    f"{module} {what}" if isinstance(module, str) and isinstance(what, str) else "?"
                )
            )
        elif name == "BINPERSID":
            stack.append(stored(stack.pop(), storages))
        elif name == "REDUCE":
            given, what = stack.pop(), stack.pop()
            stack.append(what.make(*given))
            room -= getattr(stack[-1], "nbytes", 0)
            if room < 0:
                raise ModelError(
                    "the checkpoint's tensors are larger than what it stores; is it damaged?"
                )
        elif name == "MARK":
            marks.append(len(stack))
        elif name in (
            "TUPLE",
            "APPENDS",
            "SETITEMS",
            "TUPLE1",
            "TUPLE2",
            "TUPLE3",
            "APPEND",
            "SETITEM",
        ):
            fixed = {"APPEND": 1, "SETITEM": 2}.get(
                name, int(name[-1]) if name[-1].isdigit() else None
            )
            begin = marks.pop() if fixed is None else len(stack) - fixed
            items = stack[max(begin, 0) :]
            del stack[max(begin, 0) :]
            if name.startswith("TUPLE"):
                stack.append(tuple(items))
            elif name.startswith("APPEND"):
                stack[-1].extend(items)
            elif any(not isinstance(key, (str, int)) for key in items[::2]):
                raise ModelError(
                    "the checkpoint has a key that is no name; expected weights by name; is it damaged?"
                )
            else:
                stack[-1].update(zip(items[::2], items[1::2]))
        elif name == "BUILD":
            stack.pop()  # attributes of a dict, which nobody needs
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ModelError(
                f"the checkpoint's pickle uses {name}, expected only tensors and plain values; refused"
            )
    raise ModelError("the checkpoint's pickle has no end; is the download complete?")


def stored(pid, storages):
    """What torch writes for a storage: ("storage", its type, key, place, elements) -> (its bytes, dtype)."""
    known = (
        isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)
    )
    if (
        not known
        or not isinstance(pid[1], Named)
        or pid[1].storage is None
        or pid[2] not in storages
    ):
        key = printable(pid[2])[:40] if known else "?"
        raise ModelError(
            f"the checkpoint names a storage {key}, which is not in it; is it damaged?"
        )
    return storages[pid[2]], pid[1].storage


def rebuild_tensor(storage, offset, size, stride, *rest):
    """A view of the mapped storage; its extent is checked in Python ints."""
    raw, dtype = storage
    flat = raw[: len(raw) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    numbers = (offset, *size, *stride)
    if (
        len(size) != len(stride)
        or len(size) > 8
        or not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in numbers)
    ):
        raise ModelError("a tensor's sizes are no whole numbers; is the checkpoint damaged?")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and (last >= len(flat) or math.prod(size) > len(flat)):
        raise ModelError(
            f"a tensor of {size} at {offset} reaches past its {len(flat)} values; is the checkpoint damaged?"
        )
    if 0 in size:
        return flat[:0].reshape(size)
    return np.lib.stride_tricks.as_strided(
        flat[offset:], size, [s * flat.itemsize for s in stride], writeable=False
    )


class Bounded(io.FileIO):
    """A file of which no more than 4 MiB are read at once: the list of members of a zip file may promise to be anything."""

    def read(self, n=-1):
        if (os.fstat(self.fileno()).st_size - self.tell() if n is None or n < 0 else n) > 4 << 20:
            raise ModelError(
                "a zip archive whose list of members is too long; expected a torch checkpoint; is it damaged?"
            )
        return super().read(n)

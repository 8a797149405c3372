"""llama.cpp's importance matrices: mean squares of inputs by name."""

import os
import struct

import numpy as np

from ...errors import ModelError, printable
from ...files import open_regular
from ...layers.stack import expected_tensors
from ..damage import by_kind, reading, worded
from ..say import named, say
from ..sources.ggufparts import gguf_file
from .costs import costs_of_squares

MOST = 1 << 31  # bytes of an old file
OURS = {  # the end of our name of a matrix: the Names of what has the same input
    "qkv": ("wqkv", "wq", "mix", "qkvz"),
    "o": ("wo", "out"),
    "gate_up": ("w13", "w1", "w3"),
    "down": ("w2",),
    "experts_up": ("e13", "e1", "e3"),
    "experts_down": ("e2s", "e2"),
    "ple_proj": ("ple_proj",),
    "ple_gate": ("ple_gate",),
    "ple_up": ("ple_up",),
    "head": ("head",),
    "embed": ("head", "embed"),  # as a head; where there is none it is the embedding
}


def imatrix_costs(path, source):
    """{our name of a matrix: [Costs]} of a file of either kind; source: the Source that it goes
    with."""
    name, found, costs, lacking = f"--imatrix {printable(path)}", read_imatrix(path), {}, []
    for slot in expected_tensors(source.config):
        if slot.role != "matrix" or slot.small:
            continue
        place, _, end = slot.name.rpartition(".")
        layer = int(place[1:]) if place else 0
        if end not in OURS or end == "embed" and source.config.output.own:
            continue
        theirs = [there for there in names_of(source, end, layer) if there in found]
        if not theirs:
            lacking.append(slot.name)
            continue
        means, cols = found[theirs[0]], slot.shape[1]
        parts = source.config.experts.n if end.startswith("experts") else 1
        if means.size not in (cols, parts * cols):
            text = f"{name}: {printable(theirs[0])} is of {means.size:,} columns"
            wants = f"expected {parts * cols:,}, as {slot.name} has"
            raise ModelError(f"{text}, {wants}; give the file that was made of this model")
        means = means.reshape(-1, cols)
        costs[slot.name] = costs_of_squares(means)
    inside = [there for there in lacking if there[:1] == "l"]
    if not costs or inside:
        some = ", ".join(inside[:3]) or "any matrix"
        text = f"{name}: lacks {some}{', …' if len(inside) > 3 else ''}"
        raise ModelError(f"{text}; expected all layers of this model; give the file made of it")
    if lacking:
        text = f"{name} has nothing of {', '.join(lacking)}"
        say(f"{text}, which is rounded as without it (llama-imatrix --process-output has it)")
    return costs


def names_of(source, end, layer):
    """What files may call the input of a matrix of a layer, likeliest first."""
    names = [getattr(source.names, key, None) for key in OURS[end]]
    return [name.format(layer, "").replace("..", ".") for name in names if name]


def read_imatrix(path):
    """{name: mean squares, float64 [parts, columns]} of a file, old or GGUF."""
    name = printable(path)
    fd, size = open_regular(path, "an importance matrix")
    with os.fdopen(fd, "rb") as f:
        head = f.read(4)
        wants = "); expected a file of llama-imatrix; is it whole?"
        before = f"--imatrix {name}: "
        with worded(f"{before}cannot be read (", wants, by_kind), named(before[:-2]):
            if head == b"GGUF":
                means = gguf_means(path)
            else:
                with reading():
                    means = old_means(head + f.read(min(size, MOST)))
    if not means:
        text = f"--imatrix {name}: holds no importance of any matrix"
        raise ModelError(f"{text}; expected a file of llama-imatrix; give another")
    for key, mean in means.items():
        if not np.isfinite(mean).all() or (mean < 0).any():
            text = f"--imatrix {name}: {printable(key)[:60]} is no mean of squares"
            raise ModelError(f"{text}; expected finite numbers from 0; make it anew")
    return means


def gguf_means(path):
    """Of a GGUF: NAME.in_sum2 [parts, columns], sums of squares, and NAME.counts [parts, 1]."""
    _, tensors = gguf_file(path)
    with reading():
        arrays = {name: (shape, data) for name, shape, _, data in tensors}
        means = {}
        for name, (shape, data) in arrays.items():
            stem, _, end = name.rpartition(".")
            if end != "in_sum2":
                continue
            counts = arrays[f"{stem}.counts"][1].view("<f4").astype(np.float64).reshape(-1, 1)
            sums = data.view("<f4").astype(np.float64).reshape(len(counts), shape[-1])
            whole = sums.sum(0) / max(counts.sum(), 1)
            means[stem] = np.where(counts > 0, sums / np.maximum(counts, 1), whole)
    return means


def old_means(raw):
    """Of an old file: how many; of each its name, the calls, the values (mean squares times calls).
    Of experts, the values of all behind each other: as one row, cut where they are used."""
    at, means = 4, {}
    for _ in range(struct.unpack_from("<I", raw)[0]):
        (length,) = struct.unpack_from("<I", raw, at)
        name = raw[at + 4 : at + 4 + length].decode()
        at += 4 + length
        calls, count = struct.unpack_from("<II", raw, at)
        values = np.frombuffer(raw, "<f4", count, at + 8).astype(np.float64)
        means[name], at = values[None] / max(calls, 1), at + 8 + 4 * count
    return means

"""A program as text: a line a record, by name."""

import time

import numpy as np

from .buffers import Constant, Mapped
from .operands import Number, Real, Rows
from .passes import WAIT


def listing(program):
    """[(place, kernel, operands)] of every record, as text. Of an operand in a room: its name, the
    byte where it begins if not 0, [bytes from row to row]; of a tensor: name, type, shape."""
    return [(r.place, r.kernel.name, " ".join(operand_texts(r))) for r in program.records]


def operand_texts(record):
    """name=value of what a record gives its kernel; what is absent is left out."""
    for name, operand in record.kernel.operands.declared.items():
        value = record.given.get(name)
        if isinstance(operand, Real):
            yield f"{name}={value:.6g}"
        elif isinstance(operand, Number):
            yield f"{name}={int(value)}"
        elif value is not None:
            yield f"{name}={place_text(operand, value)}"


def place_text(operand, place):
    room, at = place.room, f"+{place.at}" if place.at else ""
    if isinstance(room, Mapped):
        tensor = room.tensor
        return f"{room.name}{at}({tensor.dtype} {'x'.join(map(str, tensor.shape))})"
    if isinstance(room, Constant):
        return f"{room.name}{at}(f32 {len(room.data)})"
    return f"{room.name}{at}" + (f"[{place.step}]" if isinstance(operand, Rows) else "")


def record_times(forward, n, seconds=0.3):
    """Seconds that each record takes in a pass of n tokens, one after the other, the best of
    several passes: float64 [records]."""
    player = forward.player
    rows = player.program.copy()
    rows[:, WAIT // 8] = 1  # so that each can be played by itself
    forward([0] * n, range(n), [0] * n, [n - 1])  # the pass is set, the cache filled
    best, end = np.full(len(rows), np.inf), time.perf_counter() + seconds
    while not np.isfinite(best).all() or time.perf_counter() < end:
        for i in range(len(rows)):
            start = time.perf_counter()
            player.run(rows[i : i + 1])
            best[i] = min(best[i], time.perf_counter() - start)
    return best

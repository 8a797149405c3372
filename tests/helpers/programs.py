"""Programs that are recorded and made, and not played; the kernels there are."""

import importlib

from helpers.places import ROOT
from twofile.compiler.kernel import Kernel
from twofile.kernels.cache import cache_type
from twofile.layers.recorder import Recorder
from twofile.layers.stack import bind, keeps, record_model
from twofile.program.operands import CHUNK, IDS
from twofile.program.program import Sizes


def recorded(model, n_ctx, slots, kv, threads=2):
    """The Program of a ModelFile, made."""
    c = model.config
    pairs = CHUNK * c.experts.chosen if c.experts else 0
    sizes = Sizes(slots, n_ctx, threads, c.vocab_size, pairs, slots * (-(-n_ctx // 64)))
    program = Recorder(c, sizes, cache_type(kv), {i: keeps(c, i) for i in range(c.n_layers)})
    record_model(program, bind(c, model.tensors), program.room("ids", 8 * CHUNK * len(IDS)))
    program.make(1 << 40)
    return program


def inside(value):
    """Kernels in a module's value: itself, or those of a table or of a pair."""
    if isinstance(value, Kernel):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from inside(one)


def every_kernel():
    """{name: Kernel} of all rooms of kernels/."""
    found = {}
    for path in sorted((ROOT / "twofile" / "kernels").glob("[a-z]*.py")):
        for value in vars(importlib.import_module(f"twofile.kernels.{path.stem}")).values():
            for kernel in inside(value):
                assert found.setdefault(kernel.name, kernel) is kernel, kernel.name
    return found

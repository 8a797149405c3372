"""Kernels that are made of a template, by name."""

from ..compiler.kernel import KERNELS, Kernel
from ..words.memory import (
    loads_bf16,
    loads_f16,
    loads_f32,
    peek_bf16,
    peek_f16,
    peek_f32,
    poke_f16,
    poke_f32,
    store,
    store_f16,
)
from .activation import (  # noqa: F401
    activation,
    capped,
    clamped_gated,
    gelu_erf,
    gelu_tanh,
    in_place,
    relu,
    relu2,
    sigmoid,
    silu,
    times,
)
from .attention import attention
from .convolution import convolution
from .delta import decays, delta  # noqa: F401
from .embed import embed, weight_float, weight_q4, weight_q8
from .experts import (  # noqa: F401
    combine,
    experts_quantised,
    gated_add,
    gather,
    matmul_experts,
    route,
)
from .matmul import (
    matmul_float,
    matmul_quantised,
    matmul_tiles,
    signed_q4,
    signed_q8,
    sums_float,
    tile_q4,
    tile_q8,
)
from .norm import headnorm, norm  # noqa: F401
from .pick import pick  # noqa: F401
from .play import play, post, serve, sweep  # noqa: F401
from .rotation import angles, rope  # noqa: F401
from .rows import convert  # noqa: F401

MADE = {
    "matmul_q8_0": lambda machine: (
        matmul_tiles(signed_q8, 512, tile_q8) if machine.tiles else matmul_quantised(tile_q8)
    ),
    "matmul_q4_0": lambda machine: (
        matmul_tiles(signed_q4, 256, tile_q4) if machine.tiles else matmul_quantised(tile_q4)
    ),
    "matmul_f32": lambda machine: matmul_float(loads_f32, 4),
    "matmul_f16": lambda machine: matmul_float(loads_f16, 2),
    "matmul_bf16": lambda machine: matmul_float(loads_bf16, 2),
    "experts_q8_0": lambda machine: experts_quantised(tile_q8),
    "experts_q4_0": lambda machine: experts_quantised(tile_q4),
    "experts_f32": lambda machine: matmul_experts(*sums_float(loads_f32, 4)),
    "experts_f16": lambda machine: matmul_experts(*sums_float(loads_f16, 2)),
    "experts_bf16": lambda machine: matmul_experts(*sums_float(loads_bf16, 2)),
    "embed_q8_0": lambda machine: embed(weight_q8),
    "embed_q4_0": lambda machine: embed(weight_q4),
    "embed_f32": lambda machine: embed(weight_float(peek_f32, 4)),
    "embed_f16": lambda machine: embed(weight_float(peek_f16, 2)),
    "embed_bf16": lambda machine: embed(weight_float(peek_bf16, 2)),
    "rope_f32": lambda machine: rope(poke_f32, store, 4),
    "rope_f16": lambda machine: rope(poke_f16, store_f16, 2),
    "attention_f32": lambda machine: attention(loads_f32, 4),
    "attention_f16": lambda machine: attention(loads_f16, 2),
    "rmsnorm": lambda machine: norm(False, False),
    "rmsnorm_add": lambda machine: norm(False, True),
    "layernorm": lambda machine: norm(True, False),
    "layernorm_add": lambda machine: norm(True, True),
    "softcap": lambda machine: in_place(capped),
    "scale": lambda machine: in_place(times),
    "convolution": lambda machine: convolution(False),
    "convolution_gated": lambda machine: convolution(True),
    "sigmoid_gated": lambda machine: activation(sigmoid, True),
}
for _function in (silu, gelu_tanh, gelu_erf, relu, relu2):
    _name = _function.function.__name__
    MADE[f"{_name}_gated"] = lambda machine, function=_function: activation(function, True)
    MADE[f"{_name}_plain"] = lambda machine, function=_function: activation(function, False)
KERNELS.update({name: Kernel(name, make) for name, make in MADE.items()})

"""Kernels that are made of a template, by name."""

from ..compiler.kernel import KERNELS
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
from ..words.word import _LL
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

KERNELS.update(
    {
        "matmul_q8_0": lambda: (
            matmul_tiles(signed_q8, 512, tile_q8) if _LL.isa == "amx" else matmul_quantised(tile_q8)
        ),
        "matmul_q4_0": lambda: (
            matmul_tiles(signed_q4, 256, tile_q4) if _LL.isa == "amx" else matmul_quantised(tile_q4)
        ),
        "matmul_f32": lambda: matmul_float(loads_f32, 4),
        "matmul_f16": lambda: matmul_float(loads_f16, 2),
        "matmul_bf16": lambda: matmul_float(loads_bf16, 2),
        "experts_q8_0": lambda: experts_quantised(tile_q8),
        "experts_q4_0": lambda: experts_quantised(tile_q4),
        "experts_f32": lambda: matmul_experts(*sums_float(loads_f32, 4)),
        "experts_f16": lambda: matmul_experts(*sums_float(loads_f16, 2)),
        "experts_bf16": lambda: matmul_experts(*sums_float(loads_bf16, 2)),
        "embed_q8_0": lambda: embed(weight_q8),
        "embed_q4_0": lambda: embed(weight_q4),
        "embed_f32": lambda: embed(weight_float(peek_f32, 4)),
        "embed_f16": lambda: embed(weight_float(peek_f16, 2)),
        "embed_bf16": lambda: embed(weight_float(peek_bf16, 2)),
        "rope_f32": lambda: rope(poke_f32, store, 4),
        "rope_f16": lambda: rope(poke_f16, store_f16, 2),
        "attention_f32": lambda: attention(loads_f32, 4),
        "attention_f16": lambda: attention(loads_f16, 2),
        "rmsnorm": lambda: norm(False, False),
        "rmsnorm_add": lambda: norm(False, True),
        "layernorm": lambda: norm(True, False),
        "layernorm_add": lambda: norm(True, True),
        "softcap": lambda: in_place(capped),
        "scale": lambda: in_place(times),
        "convolution": lambda: convolution(False),
        "convolution_gated": lambda: convolution(True),
        "sigmoid_gated": lambda: activation(sigmoid, True),
    }
)
for _function in (silu, gelu_tanh, gelu_erf, relu, relu2):
    _name = _function.function.__name__
    KERNELS[f"{_name}_gated"] = lambda function=_function: activation(function, True)
    KERNELS[f"{_name}_plain"] = lambda function=_function: activation(function, False)

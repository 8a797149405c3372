"""A model.bin read slowly, in float64, by docs/format.md alone: shares no code with run.py or export.py."""

import math
import struct

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])
ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_erf": lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}
TYPES = {1: "f32", 2: "f16", 3: "bf16", 4: "q8_0", 5: "q4_0", 6: "i32", 7: "u8"}


def read(path):
    """-> {name: array of the true shape; float64, or int64 and uint8 for i32 and u8}. Quantised matrices come dequantised."""
    raw = open(path, "rb").read()
    n = struct.unpack_from("<I", raw, 0x18)[0]
    records = {}
    for i in range(n):
        at = 4096 + 192 * i
        name = raw[at : at + 64].split(b"\0")[0].decode()
        dtype, ndim, *numbers = struct.unpack_from("<II4QQQ", raw, at + 64)
        records[name] = (TYPES[dtype], tuple(numbers[:ndim]), raw[numbers[4] : numbers[4] + numbers[5]])
    out = {}
    for name, (dtype, shape, data) in records.items():
        scales = records.get(name + ".s", (0, 0, b""))[2]
        if dtype == "f16" and len(shape) == 3:
            continue
        out[name] = (
            matrix(dtype, shape, data, scales)
            if len(shape) == 2 and dtype not in ("i32", "u8")
            else plain(dtype, shape, data)
        )
    return out


def plain(dtype, shape, data):
    kind = {"f32": "<f4", "i32": "<i4", "u8": "u1"}[dtype]
    return np.frombuffer(data, kind).reshape(shape).astype({"f32": float, "i32": np.int64, "u8": np.uint8}[dtype])


def matrix(dtype, shape, data, scales):
    """Every element looked up by its place in the blocks of 16 rows."""
    r, k = np.indices(shape)
    block, lane, cols = r // 16, r % 16, shape[1]
    wide = -(-cols // 32) * 32
    if dtype == "f32":
        return np.frombuffer(data, "<f4")[block * 16 * cols + k * 16 + lane].astype(float)
    if dtype == "f16":
        return np.frombuffer(data, "<f2")[block * 16 * cols + k * 16 + lane].astype(float)
    if dtype == "bf16":
        bits = np.frombuffer(data, "<u2")[block * 16 * cols + k * 16 + lane].astype("<u4") << 16
        return bits.view("<f4").astype(float)
    scale = np.frombuffer(scales, "<f2")[(block * (wide // 32) + k // 32) * 16 + lane].astype(float)
    raw = np.frombuffer(data, "u1").astype(int)
    if dtype == "q8_0":
        return (raw[block * 16 * wide + k // 4 * 64 + lane * 4 + k % 4] - 128) * scale
    byte = raw[block * 8 * wide + k // 8 * 64 + lane * 4 + k % 4]
    return (np.where(k % 8 < 4, byte & 15, byte >> 4) - 8) * scale


def int8_activations(x):
    """float [n, cols] -> int8 values and float32 scales by groups of 32, as the kernels make them; all in float32."""
    x = np.asarray(x, np.float32)
    n, cols = x.shape
    wide = np.zeros((n, -(-cols // 32) * 32), np.float32)
    wide[:, :cols] = x
    groups = wide.reshape(n, -1, 32)
    size = np.abs(groups).max(-1)
    inverse = np.divide(np.float32(127), size, out=np.zeros_like(size), where=size > 0)
    values = np.rint(groups * inverse[..., None])
    return values.astype(np.int64), (size / np.float32(127)).astype(np.float32)


def fma32(x, y, z):
    """round_float32(x * y + z), rounded once. The float64 sum is rounded to odd first, so that rounding twice does no harm
    (Boldo and Melquiond 2008)."""
    product = x.astype(np.float64) * y.astype(np.float64)  # exact: 48 bits at most
    z = z.astype(np.float64)
    total = product + z
    part = total - product
    error = (product - (total - part)) + (z - part)
    bits = total.view(np.int64)
    even = (bits & 1) == 0
    toward = np.where((error > 0) == (total > 0), 1, -1)
    odd = np.where((error != 0) & even, bits + toward, bits).view(np.float64)
    return odd.astype(np.float32)

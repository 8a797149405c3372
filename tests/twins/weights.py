"""A model.bin read slowly, in float64, by docs/format.md alone."""

import struct

import numpy as np

TYPES = {1: "f32", 2: "f16", 3: "bf16", 4: "q8_0", 5: "q4_0", 6: "i32", 7: "u8"}


def read_tensors(path):
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
            unpack_matrix(dtype, shape, data, scales)
            if len(shape) == 2 and dtype not in ("i32", "u8")
            else plain(dtype, shape, data)
        )
    return out


def plain(dtype, shape, data):
    kind = {"f32": "<f4", "i32": "<i4", "u8": "u1"}[dtype]
    return np.frombuffer(data, kind).reshape(shape).astype({"f32": float, "i32": np.int64, "u8": np.uint8}[dtype])


def unpack_matrix(dtype, shape, data, scales):
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

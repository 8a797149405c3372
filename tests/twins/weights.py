"""A model.bin read slowly, in float64, by docs/format.md alone."""

import struct

import numpy as np

TYPES = {1: "f32", 2: "f16", 3: "bf16", 4: "q8_0", 5: "q4_0", 6: "i32", 7: "u8", 8: "i8", 9: "q4_1", 10: "q5_0", 11: "q5_1"}
TYPES |= {12: "q2_k", 13: "q3_k", 14: "q4_k", 15: "q5_k", 16: "q6_k", 17: "iq4_nl", 18: "iq4_xs"}
ZEROS = {"q8_0": 128, "q4_0": 8, "q5_0": 16, "q3_k": 4, "q6_k": 32}
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], float)


def read_tensors(path):
    """-> {name: array of the true shape; float64, or int64 and uint8 for i32 and u8}. Quantised matrices come dequantised,
    and those in pieces whole."""
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
        scales, above = (records.get(name + end, (0, 0, b""))[2] for end in (".s", ".d"))
        if name.endswith((".s", ".d")):
            continue
        matrix = len(shape) == 2 and dtype not in ("i32", "u8")
        array = unpack_matrix(dtype, shape, data, scales, above) if matrix else plain(dtype, shape, data)
        whole = name.rsplit(".", 1)[0] if name[-1].isdigit() and name.rsplit(".", 1)[0] in out else name
        out[whole] = np.concatenate((out[whole], array)) if whole in out else array
    return out


def plain(dtype, shape, data):
    kind = {"f32": "<f4", "i32": "<i4", "u8": "u1"}[dtype]
    return np.frombuffer(data, kind).reshape(shape).astype({"f32": float, "i32": np.int64, "u8": np.uint8}[dtype])


def unpack_matrix(dtype, shape, data, scales, above=b""):
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
    raw, groups = np.frombuffer(data, "u1").astype(int), wide // 32
    number = bits_at(raw, dtype, block, lane, k, groups)
    scale, least = scales_at(dtype, scales, above, block, lane, k, groups)
    if dtype.startswith("iq4"):
        return LEVELS[number] * scale
    return (number - ZEROS.get(dtype, 0)) * scale + least


def bits_at(raw, dtype, block, lane, k, groups):
    """The unsigned number of element (lane, k) of a block: whole bytes, or nibbles and planes of what is above them."""
    bits = {"q8_0": 8, "iq4_nl": 4, "iq4_xs": 4}.get(dtype) or int(dtype[1])
    byte, c = lane * 4 + k % 4, k % 32
    group = (block * groups + k // 32) * 64 * bits
    if bits == 8:
        return raw[group + c // 4 * 64 + byte]
    number, used = np.zeros(k.shape, int), 0
    if bits >= 4:
        number, used = raw[group + c // 8 * 64 + byte] >> (c % 8 // 4 * 4) & 15, 256
    if bits in (2, 3, 6):
        two = raw[group + used + c // 16 * 64 + byte] >> (c % 16 // 4 * 2) & 3
        number, used = number + two * (16 if bits == 6 else 1), used + 128
    if bits in (3, 5):
        number = number + (raw[group + used + byte] >> (c // 4) & 1) * (4 if bits == 3 else 16)
    return number


def scales_at(dtype, scales, above, block, lane, k, groups):
    """What the number of element (lane, k) is multiplied by, and what is added then."""
    half = lambda raw, at: np.frombuffer(raw, "<f2")[at].astype(float)
    if dtype in ("q8_0", "q4_0", "q5_0", "iq4_nl"):
        return half(scales, (block * groups + k // 32) * 16 + lane), 0.0
    if dtype in ("q4_1", "q5_1"):
        at = (block * groups + k // 32) * 32 + lane
        return half(scales, at), half(scales, at + 16)
    super_, supers = k // 256, -(-groups // 8)
    if dtype in ("q4_k", "q5_k"):
        at, over = (block * groups + k // 32) * 32 + lane, (block * supers + super_) * 32 + lane
        raw = np.frombuffer(scales, "u1").astype(float)
        return raw[at] * half(above, over), raw[at + 16] * half(above, over + 16)
    part = block * groups + k // 32 if dtype == "iq4_xs" else block * groups * 2 + k // 16
    if dtype == "q2_k":
        raw, over = np.frombuffer(scales, "u1").astype(int)[part * 16 + lane], (block * supers + super_) * 32 + lane
        return (raw & 15) * half(above, over), (raw >> 4) * half(above, over + 16)
    return np.frombuffer(scales, "i1")[part * 16 + lane] * half(above, (block * supers + super_) * 16 + lane), 0.0

"""Ways to harm a model.bin, each with the words that must refuse it. Rows M of the list of harms."""

import struct

from helpers.models import mend
from twofile.format.config import CONFIG, unpack_config
from twofile.format.table import MAGIC

CASES = {}


def harm(name, says, mended=True):
    """Register a change of a good file's bytes that must be refused with words that match says."""

    def register(change):
        CASES[name] = (change, says, mended)
        return change

    return register


def put(at, form, *values):
    def change(raw):
        struct.pack_into("<" + form, raw, at, *values)
        return raw

    return change


def config(**fields):
    """Change fields of the config, as an exporter gone wrong would write them."""

    def change(raw):
        numbers = {**unpack_config(bytes(raw[0x60 : 0x60 + 512])), **fields}
        numbers["arch_tag"] = numbers["arch_tag"].encode()
        CONFIG.pack_into(raw, 0x60, *numbers.values())
        return raw

    return change


def record(name, at, form, *values):
    """Change a field of a tensor's record."""

    def change(raw):
        n = struct.unpack_from("<I", raw, 0x18)[0]
        names = [bytes(raw[4096 + 192 * i : 4096 + 192 * i + 64]).rstrip(b"\0").decode() for i in range(n)]
        struct.pack_into("<" + form, raw, 4096 + 192 * names.index(name) + at, *values)
        return raw

    return change


def tensor(name, kind, index, value):
    """Change one value of a tensor's data."""

    def change(raw):
        n = struct.unpack_from("<I", raw, 0x18)[0]
        for i in range(n):
            r = raw[4096 + 192 * i : 4096 + 192 * (i + 1)]
            if bytes(r[:64]).rstrip(b"\0").decode() == name:
                off = struct.unpack_from("<Q", r, 104)[0]
                struct.pack_into("<" + kind, raw, off + struct.calcsize(kind) * index, value)
        return raw

    return change


def swapped(raw):
    struct.pack_into(">I", raw, 0x0C, 0x01020304)
    return raw


def delta_layer(**more):
    sizes = dict(conv_len=4, delta_k_heads=3, delta_v_heads=3, delta_k_dim=8, delta_v_dim=5)
    return config(flags=25, kinds=b"\2".ljust(224, b"\0"), **{**sizes, **more})


N, NDIM, DIM0, OFF, NBYTES, GROUP, LAYOUT = 64, 68, 72, 104, 112, 120, 124
for name, change, says in [
    ("M2 empty", lambda r: r[:0], "empty"),
    ("M2 one byte", lambda r: r[:1], "starts with"),
    ("M2 4095 bytes", lambda r: r[:4095], "shorter than"),
    ("M2 one header page", lambda r: r[:4096], "shorter than"),
    ("M3 wrong magic", lambda r: b"\x00" * 8 + r[8:], "was it written by "),
    ("M3 GGUF", lambda r: b"GGUF" + r[4:], "GGUF"),
    ("M3 safetensors", lambda r: struct.pack("<Q", 100) + b'{"a":' + r[13:], "safetensors"),
    ("M3 zip", lambda r: b"PK\x03\x04" + r[4:], "torch checkpoint"),
    ("M3 gzip", lambda r: b"\x1f\x8b\x08" + r[3:], "gzip"),
    ("M3 web page", lambda r: b"<!DOCTYPE html>" + r[15:], "web page"),
    ("M3 git-lfs", lambda r: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    ("M4 text mode", lambda r: r.replace(b"\r\n", b"\n"), "text mode"),
    ("M5 version 0", put(8, "I", 0), "version 0, this run.py reads 1"),
    ("M5 version 2", put(8, "I", 2), "version 2, this run.py reads 1"),
    ("M5 version max", put(8, "I", 0xFFFFFFFF), "version 4294967295"),
    ("M6 byte-swapped", swapped, "big-endian"),
    ("M7 half a header", lambda r: r[:9000], "truncated"),
    ("M7 middle of a tensor", lambda r: r[: len(r) // 2], "truncated"),
    ("M7 last byte", lambda r: r[:-1], "truncated"),
    ("M8 trailing byte", lambda r: r + b"\0", "appended"),
    ("M8 polyglot", lambda r: r + b"PK\x05\x06" + bytes(18), "appended"),
    ("M11 no tensors", put(0x18, "I", 0), "0 tensors"),
    ("M11 65537 tensors", put(0x18, "I", 65537), "65537 tensors"),
    ("M11 2^32-1 tensors", put(0x18, "I", 0xFFFFFFFF), "4294967295 tensors"),
    ("M11 data elsewhere", put(0x28, "Q", 1 << 62), "header puts the data"),
    ("M12 empty name", record("l0.o", 0, "64s", b""), "expected a name"),
    ("M12 unterminated name", record("l0.o", 0, "64s", b"a" * 64), "expected a name"),
    ("M12 not ASCII", record("l0.o", 0, "64s", "é".encode()), "expected a name"),
    ("M12 path", record("l0.o", 0, "64s", b"../x"), "expected a name"),
    ("M12 hidden behind a zero", record("l0.o", 0, "64s", b"l0.o\0x"), "expected a name"),
    ("M12 duplicate", record("l0.o", 0, "64s", b"l1.o"), "do not fit the config"),
    ("M13 type 0", record("l0.o", N, "I", 0), "newer run.py"),
    ("M13 type 99", record("l0.o", N, "I", 99), "newer run.py"),
    ("M13 ndim 0", record("l0.o", NDIM, "I", 0), "0 dims"),
    ("M13 ndim 5", record("l0.o", NDIM, "I", 5), "5 dims"),
    ("M13 layout 2", record("l0.o", LAYOUT, "I", 2), "layout 2"),
    ("M13 reserved", record("l0.o", 191, "B", 1), "newer run.py"),
    ("M13 reserved of the header", put(3000, "B", 1), "reserved header bytes"),
    ("M13 plain q8", record("l0.o", LAYOUT, "I", 0), "layout 0"),
    ("M14 dim 0", record("l0.o", DIM0, "Q", 0), "dims"),
    ("M14 dim 2^31+1", record("l0.o", DIM0, "Q", (1 << 31) + 1), "dims"),
    ("M14 product 2^64 + k", record("l0.o", DIM0, "QQ", 1 << 31, 1 << 31), "bytes, expected"),
    ("M14 dim beyond ndim", record("l0.o", DIM0 + 16, "Q", 1), "dims"),
    ("M15 overlap", record("l0.o", OFF, "Q", 8192), "overlap or hole"),
    ("M15 unaligned", record("l0.o", OFF, "Q", 99999), "overlap or hole"),
    ("M15 past the end", record("l0.o", OFF, "Q", 1 << 40), "overlap or hole"),
    ("M15 2^64 - 64", record("l0.o", OFF, "Q", (1 << 64) - 64), "overlap or hole"),
    ("M15 nbytes", record("l0.o", NBYTES, "Q", 64), "64 bytes, expected"),
    ("M16 group 0", record("l0.o", GROUP, "I", 0), "group 0"),
    ("M16 group 48", record("l0.o", GROUP, "I", 48), "group 48"),
    ("M16 scales of another shape", record("l0.o.s", DIM0, "QQ", 9, 1), "do not fit|bytes, expected"),
    ("M17 missing head", config(flags=30), "unexpected head"),
    ("M17 extra layer", config(n_layers=3), "do not fit the config: unexpected window"),
    ("M17 wrong width", config(dim=49), "do not fit the config"),
    ("M18 heads", config(n_kv_heads=4), "6 heads over 4"),
    ("M18 odd head", config(head_dim=11), "expected a divisor and an even size"),
    ("M18 no layers", config(n_layers=0), "n_layers is 0"),
    ("M18 10^9 layers", config(n_layers=10**9), "n_layers is 1000000000"),
    ("M18 no vocabulary", config(vocab_size=0), "vocab_size is 0"),
    ("M18 no context", config(max_ctx=0), "max_ctx is 0"),
    ("M18 bos", config(bos=93), "bos is 93"),
    ("M18 unknown switch", config(norm=2), "norm is 2, expected 0..1"),
    ("M18 unknown flag", config(flags=31 | 1 << 20), "flags is 1048607"),
    ("M18 a norm behind the rotation that is not there", config(qk_after=1), "qk_after is 1"),
    ("M18 qk_after out of range", config(qk_after=2), "qk_after is 2, expected 0..1"),
    ("M18 unknown kind of layer", config(flags=25, kinds=b"\xff".ljust(224, b"\0")), "kinds of layers"),
    ("M18 kinds of layers that are not there", config(flags=25, kinds=bytes(2) + b"\1".ljust(222, b"\0")), "kinds of layers"),
    ("M18 no taps", config(flags=25, kinds=b"\1".ljust(224, b"\0")), "conv_len is 0"),
    ("M18 taps for nothing", config(flags=25, conv_len=3), "conv_len is 3"),
    ("M18 too many taps", config(flags=25, kinds=b"\1".ljust(224, b"\0"), conv_len=17), "conv_len is 17, expected 0..16"),
    ("M18 delta without sizes", config(flags=25, kinds=b"\2".ljust(224, b"\0"), conv_len=4), "0 and 0 heads of 0 and 0"),
    ("M18 delta for nothing", config(flags=25, delta_k_heads=1), "1 and 0 heads"),
    ("M18 turns of nothing", config(flags=25 | 1 << 19), "0 and 0 heads"),
    ("M18 heads of delta", delta_layer(delta_k_heads=2), "2 and 3 heads of 8 and 5"),
    ("M18 keys of delta", delta_layer(delta_k_dim=6), "delta_k_dim is 6, expected a multiple of 4"),
    ("M18 wide delta", delta_layer(delta_k_heads=4096, delta_v_heads=4096, delta_k_dim=1024), "4096 and 4096 heads of 1024"),
    ("M18 second heads for nothing", config(flags=25, head_dim2=8, n_kv_heads2=1), "1 heads of 8"),
    ("M18 no second heads", config(flags=25, kinds=b"\3".ljust(224, b"\0")), "0 heads of 0"),
    ("M18 second heads", config(flags=25, kinds=b"\3".ljust(224, b"\0"), head_dim2=8, n_kv_heads2=4), "4 heads of 8"),
    ("M18 odd second heads", config(flags=25, kinds=b"\3".ljust(224, b"\0"), head_dim2=7, n_kv_heads2=1), "1 heads of 7"),
    ("M18 all layers share", config(flags=25, kv_shared=2), "kv_shared is 2"),
    (
        "M18 nothing to share",
        config(flags=25, kv_shared=1, kinds=b"\0\3".ljust(224, b"\0"), head_dim2=8, n_kv_heads2=1),
        "kv_shared is 1",
    ),
    ("M18 a convolution that shares", config(flags=25, kv_shared=1, conv_len=3, kinds=b"\0\1".ljust(224, b"\0")), "kv_shared"),
    ("M18 wide layers that are not", config(flags=25, ffn_dim2=8), "ffn_dim2 is 8"),
    ("M18 embeddings of layers", config(flags=25, ple_dim=24), "ple_dim 24"),
    ("M18 wide embeddings of layers", config(flags=25, ple_dim=16400), "ple_dim is 16400"),
    ("M18 embeddings of layers that are not there", config(flags=25, ple_dim=32), "missing ple_embed"),
    ("M18 a gate in parallel", config(flags=25 | 1 << 16, parallel=1), "in parallel"),
    ("M18 biases beside convolutions", config(kinds=b"\1".ljust(224, b"\0"), conv_len=3), "kinds with biases"),
    ("M18 kinds, but the tensors of one", config(flags=25, kinds=b"\1".ljust(224, b"\0"), conv_len=3), "unexpected l0.qkv"),
    ("M19 eps 0", config(eps=0.0), "eps is 0"),
    ("M19 eps NaN", config(eps=float("nan")), "eps is nan"),
    ("M19 eps negative", config(eps=-1e-5), "eps is -"),
    ("M19 scale inf", config(embed_scale=float("inf")), "embed_scale is inf"),
    ("M19 softcap negative", config(attn_cap=-1.0), "attn_cap is -1"),
    ("M19 a switch of a later version", config(clip_qkv=8.0), "newer run.py"),
    ("M19 temperature without a length", config(temp_beta=0.1), "temp_len is 0"),
    ("M19 half a position", config(temp_beta=0.1, temp_len=7.5), "temp_len is 7.5"),
    ("M20 window", tensor("window", "i", 0, -1), "window or rope_id"),
    ("M20 rope_id", tensor("rope_id", "i", 1, 1), "window or rope_id"),
    ("M20 rope NaN", tensor("rope", "f", 0, float("nan")), "rope holds NaN"),
    ("M21 router without experts", config(router=1, top_k=2), "router is 1|top_k is 2"),
    ("M21 top_k without experts", config(top_k=2), "without experts"),
    ("M21 more chosen than there are", config(n_experts=4, top_k=5, expert_ffn=16), "4 experts of 16, 5 a token"),
    ("M21 no block of rows", config(n_experts=4, top_k=2, expert_ffn=12), "4 experts of 12, 2 a token"),
    ("M21 a norm nobody would apply", config(n_experts=4, top_k=2, expert_ffn=16, flags=31 | 128), "norms before and not"),
    ("M21 gate of nothing", config(n_experts=4, top_k=2, expert_ffn=16, flags=31 | 8192), "gate of a shared expert"),
    ("M22 NaN in a norm", tensor("l0.an.w", "f", 3, float("nan")), "l0.an.w holds NaN"),
    ("M22 infinity in a scale", tensor("l1.down.s", "e", 3, float("inf")), "l1.down.s holds NaN or infinity"),
    ("M25 note too long", put(0x38, "Q", 2 << 20), "note"),
]:
    CASES[name] = (change, says, True)
for name, at in (("config", 0x70), ("table", 4100), ("note", None)):
    flip = lambda raw, at=at: raw[: at or -1] + raw[at or -1 :]
    CASES[f"M9 flipped bit in the {name}"] = (at, "metadata checksum", False)


def damaged(name, good):
    """The bytes of a case."""
    change, _, mended = CASES[name]
    raw = bytearray(good)
    if callable(change):
        raw = bytearray(change(raw))
    else:
        raw[change if change else int.from_bytes(raw[0x30:0x38], "little")] ^= 4
    if mended and len(raw) > 8192 and raw[:8] == MAGIC and int.from_bytes(raw[0x28:0x30], "little") < len(raw):
        mend(raw)
    return raw

"""Kernels one at a time: exact against numpy emulations where they are exact, and in every instruction set."""

import os
import subprocess
import sys

import naive
import numpy as np
import pytest
from conftest import ROOT, make_model

import export
import run

SIZES = [(16, 32), (5, 8), (33, 100), (64, 64), (70, 33), (160, 1)]  # rows, columns


def play(kernel, fields, n, threads=1):
    """Run one recorded kernel over n tokens on this thread as each of the threads in turn."""
    code = run.Code([kernel], lambda text: None)
    pas = np.zeros(64, np.int64)
    pas[run.N_TOKENS // 8] = n
    record = np.zeros(24, np.int64)
    record[run.COUNT // 8] = pas.ctypes.data
    for offset, value in fields.items():
        record[offset // 8] = value
    call = code.function(kernel)
    for t in range(threads):
        call(record.ctypes.data, pas.ctypes.data, t, threads)


def gain(value):
    return int(np.float32(value).view(np.int32))


def quantised_input(x):
    """Rows of x as the kernels take them: int8, scales, sums, each a padded copy; -> fields and the arrays to keep alive."""
    values, scales = naive.int8_activations(x)
    n = len(x)
    q = np.ascontiguousarray(values.reshape(n, -1).astype(np.int8))
    sums = values.sum(-1).astype(np.int32)
    scales = np.ascontiguousarray(scales)
    fields = {run.Q: q.ctypes.data, run.QS: scales.ctypes.data, run.QC: sums.ctypes.data}
    return {**fields, run.Q_STEP: q.shape[1], run.G_STEP: 4 * scales.shape[1]}, (q, scales, sums), values, scales


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0"])
@pytest.mark.parametrize("rows, cols", SIZES)
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_quantised_matmul_is_exact(dtype, rows, cols, n):
    """Bit for bit: integer sums within a group, then fused multiply-adds over the groups in order."""
    rng = np.random.default_rng(rows * cols + n)
    w, x = rng.standard_normal((rows, cols)).astype(np.float32), rng.standard_normal((n, cols)).astype(np.float32)
    data, scales, _ = export.pack(w, dtype)
    tall = run.padded(rows, 16)
    out = np.zeros((n, tall), np.float32)
    fields, keep, values, xs = quantised_input(x)
    wide = run.padded(cols, 32)
    fields |= {run.W: data.ctypes.data, run.S: scales.ctypes.data, run.ROWS: tall, run.COLS: wide}
    fields |= {run.OUT: out.ctypes.data, run.OUT_STEP: 4 * tall, run.GAIN: gain(1)}
    play(f"matmul_{dtype}", fields, n, threads=2)

    back = naive.matrix(dtype, (tall, wide), data.tobytes(), scales.tobytes())
    group_scale = scales.transpose(0, 2, 1).reshape(tall, -1).astype(np.float32)
    whole = np.rint(
        np.divide(
            back.reshape(tall, -1, 32),
            group_scale[..., None],
            where=group_scale[..., None] != 0,
            out=np.zeros((tall, wide // 32, 32)),
        )
    )
    want = np.zeros((n, tall), np.float32)
    for g in range(wide // 32):
        sums = values[:, g] @ whole[:, g].T.astype(np.int64)
        want = naive.fma32(sums.astype(np.float32), xs[:, g, None] * group_scale[None, :, g], want)
    assert np.array_equal(out.view(np.int32), want.view(np.int32))
    assert np.abs(w).max() > 0 and np.abs(out[:, :rows]).max() > 0


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("rows, cols", SIZES)
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_float_matmul(dtype, rows, cols, n):
    """Within 1e-6 |w| |x| of float64 on the stored weights; with bias, gain and addition to what is there."""
    rng = np.random.default_rng(rows * cols + n)
    w, x = rng.standard_normal((rows, cols)).astype(np.float32), rng.standard_normal((n, cols)).astype(np.float32)
    data, _, back = export.pack(w, dtype)
    tall = run.padded(rows, 16)
    out = rng.standard_normal((n, tall)).astype(np.float32)
    bias = rng.standard_normal(tall).astype(np.float32)
    before = out.astype(float)
    fields = {run.W: data.ctypes.data, run.ROWS: tall, run.COLS: cols, run.X: x.ctypes.data, run.X_STEP: 4 * cols}
    fields |= {
        run.OUT: out.ctypes.data,
        run.OUT_STEP: 4 * tall,
        run.GAIN: gain(0.5),
        run.ADD: 1,
        run.BIAS: bias.ctypes.data,
    }
    play(f"matmul_{dtype}", fields, n, threads=3)
    exact = x.astype(float) @ back.T.astype(float)
    want = before[:, :rows] + 0.5 * (exact + bias[:rows])
    bound = 1e-6 * (
        np.linalg.norm(back, axis=1) * np.linalg.norm(x, axis=1)[:, None] + np.abs(want) + np.abs(bias[:rows])
    )
    assert (np.abs(out[:, :rows] - want) <= bound).all()


def test_activations_are_quantised_as_in_numpy():
    """Exactly, zeros and a single large value included."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 96)) * 10.0 ** rng.integers(-3, 4, (5, 1))).astype(np.float32)
    x[1, :32], x[2, 40] = 0, 1e30
    q, qs, qc = np.zeros((5, 96), np.int8), np.zeros((5, 3), np.float32), np.zeros((5, 3), np.int32)
    fields = {run.X: x.ctypes.data, run.X_STEP: 384, run.COLS: 96, run.Q_STEP: 96, run.G_STEP: 12}
    play("convert", {**fields, run.Q: q.ctypes.data, run.QS: qs.ctypes.data, run.QC: qc.ctypes.data}, 5, threads=2)
    values, scales = naive.int8_activations(x)
    assert (
        np.array_equal(q.reshape(5, 3, 32), values)
        and np.array_equal(qs, scales)
        and np.array_equal(qc, values.sum(-1))
    )
    assert np.abs(values).max() == 127


def test_angles():
    """cos and sin of the float32 product position * frequency, to float32 precision, at any position."""
    half, positions = 20, np.array([0, 1, 7, 511, 8191, 131071, 16777215], np.int64)
    table = np.concatenate([export.rope_table(2 * half, 10000.0)[0, 0], np.full(half, 1.5)]).astype(np.float32)
    out = np.zeros((len(positions), 2, half), np.float32)
    code, pas, record = run.Code(["angles"], lambda text: None), np.zeros(64, np.int64), np.zeros(24, np.int64)
    pas[run.N_TOKENS // 8], pas[run.POSITIONS // 8] = len(positions), positions.ctypes.data
    for field, value in (
        (run.OUT, out.ctypes.data),
        (run.OUT_STEP, 8 * half),
        (run.W, table.ctypes.data),
        (run.A, half),
        (run.B, 1),
    ):
        record[field // 8] = value
    code.function("angles")(record.ctypes.data, pas.ctypes.data, 0, 1)
    angle = (positions.astype(np.float32)[:, None] * table[:half]).astype(float)
    np.testing.assert_allclose(out[:, 0], 1.5 * np.cos(angle), rtol=0, atol=1.2e-7)
    np.testing.assert_allclose(out[:, 1], 1.5 * np.sin(angle), rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", run.ACTIVATIONS[:-1])
def test_activations(name, gated):
    rng = np.random.default_rng(0)
    x = np.zeros((3, 192), np.float32)
    x[:, :140] = rng.standard_normal((3, 140)) * 8  # gate 70, up 70
    out = np.ones((3, 96), np.float32)
    fields = {run.X: x.ctypes.data, run.X_STEP: 768, run.A: 70, run.COLS: 96, run.OUT: out.ctypes.data, run.OUT_STEP: 384}
    play(f"{name}_{'gated' if gated else 'plain'}", fields, 3, threads=2)
    gate, up = x[:, :70].astype(float), x[:, 70:140].astype(float) if gated else 1.0
    want = naive.ACTIVATIONS[name](gate) * up
    assert (np.abs(out[:, :70] - want) <= 2e-6 * np.abs(want) + 1e-7 * np.abs(gate * up)).all()
    assert not out[:, 70:].any()


def test_pick_keeps_the_largest_in_order():
    x = np.random.default_rng(0).integers(0, 50, 1000).astype(np.float32)  # many equals: the lower index first
    for k in (1, 2, 40, 1000):
        sampler = run.Sampler(run.Sampling(1.0, k), 1000, run.Code(["pick"], lambda text: None))
        sampler(x, [], 0.5)
        found = sampler.block.view(np.float32, run.BEST // 4 + 2 * k)[run.BEST // 4 :]
        want = np.argsort(-x, kind="stable")[:k]
        assert np.array_equal(found[k:].view(np.int32), want) and np.array_equal(found[:k], x[want])


SAME_BITS = """
import sys, zlib
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np, run
ids = np.random.default_rng(1).integers(0, 93, 87).tolist()  # tiles of 16, 4 and 1
for path in sys.argv[1:]:
    print(zlib.crc32(run.Model(path, n_threads=1, verbose=False).logits(ids).tobytes()), run.host_isa()[0])
"""


def machines():
    """{instruction set: variables that choose it}, of those that this machine can run."""
    from llvmlite import binding

    host, features = run.host_isa()[0], binding.get_host_cpu_features()
    without = lambda *names: ",".join(f"{'+-'[not on or n.startswith(names)]}{n}" for n, on in features.items())
    if host == "neon":
        return {"neon": {}}
    found = {host: {}, "avx2": {"NUMBA_CPU_NAME": "haswell"}, "generic": {"NUMBA_CPU_NAME": "x86-64"}}
    if host == "amx":
        found["avx512"] = {"NUMBA_CPU_FEATURES": without("amx")}
    if host in ("amx", "avx512") and features.get("avxvnni"):
        found["avxvnni"] = {"NUMBA_CPU_FEATURES": without("amx", "avx512", "avx10")}
    return found


def test_every_instruction_set_gives_the_same_bits(models, tmp_path):
    """Those that the host has, down to plain SSE2 without half floats or fused multiply-add in hardware."""
    from test_states import SIZES

    hybrids = {name: make_model(tmp_path / f"{n}.bin", "q8_0", **sizes) for n, (name, sizes) in enumerate(SIZES.items())}
    models = {**models, **hybrids}
    script = SAME_BITS.format(root=str(ROOT), tests=str(ROOT / "tests"))
    found = {}
    for isa, variables in machines().items():
        command = [sys.executable, "-c", script, *map(str, models.values())]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        found[isa] = tuple(r[0] for r in rows)
        assert {r[1] for r in rows} == {isa}
    assert len(set(found.values())) == 1, found
    assert len(set(found[isa])) == len(models)


@pytest.mark.parametrize(
    "isa, triple, cpu, features, wants",
    [
        ("avx512", "x86_64-linux-gnu", "znver4", "", "vpdpbusd"),
        ("avxvnni", "x86_64-linux-gnu", "alderlake", "", "vpdpbusd"),
        ("avx2", "x86_64-linux-gnu", "haswell", "", "vpmaddubsw"),
        ("neon", "aarch64-linux-gnu", "generic", "+dotprod", "sdot"),
    ],
)
def test_dot_selects_the_instruction(isa, triple, cpu, features, wants, monkeypatch):
    """The words of other machines compile, from here, to the instruction they are meant for."""
    from llvmlite import binding, ir

    run._prepare()
    monkeypatch.setattr(run._LL, "isa", isa)
    monkeypatch.setattr(run._LL, "N", ir.VectorType(ir.IntType(16), 32) if isa == "avx2" else run._LL.I)
    module = ir.Module()
    i64, pointer = ir.IntType(64), run._LL.I.as_pointer()
    for name, word, acc in (("dot", run._dot, run._LL.I), ("dot4", run._dot4, run._LL.N)):
        f = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64, i64, i64]), name)
        b = ir.IRBuilder(f.append_basic_block())
        at, w, x = f.args
        value = word(
            b,
            b.load(b.inttoptr(at, acc.as_pointer()), align=4),
            b.load(b.inttoptr(w, run._LL.B.as_pointer()), align=4),
            x,
        )
        b.store(value, b.inttoptr(at, acc.as_pointer()), align=4)
        b.ret_void()
    assert pointer is not None
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    parsed = binding.parse_assembly(str(module))
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    assembly = machine.emit_assembly(parsed)
    assert assembly.count(wants) >= 2


def test_amx_multiplies_on_its_tiles(monkeypatch):
    """The words compile, from here, to the tile instructions; with AMX the quantised matmuls are made of them."""
    from llvmlite import binding, ir

    run._prepare()
    if not run._LL.x86:
        pytest.skip("not an x86 processor")
    module, i64 = ir.Module(), ir.IntType(64)
    b = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), [i64] * 4), "dot").append_basic_block())
    run._tile_config(b)
    run._tile_dot(0)(b, *b.function.args)
    b.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple("x86_64-linux-gnu").create_target_machine(cpu="sapphirerapids")
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    assert all(assembly.count(name) == n for name, n in {"ldtilecfg": 1, "tileloadd": 2, "tdpbssd": 1, "tilestored": 1}.items())
    for isa, maker in (("amx", "matmul_tiles"), ("avx512", "matmul_quantised")):
        monkeypatch.setattr(run._LL, "isa", isa)
        for kind in ("q8_0", "q4_0"):
            assert run.KERNELS[f"matmul_{kind}"]().__qualname__.startswith(maker)

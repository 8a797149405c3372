"""A model's numbers in memory, part by part; a part that it lacks is None."""

import struct
from typing import Any

from .fields import ATTENTION, FIELDS, FLAGS, OPTIONAL

CONFIG = struct.Struct("<" + "".join(field.code for field in FIELDS))  # 476 of the 512 bytes
CONFIG_BYTES = 512
_PLACES = {row.at: row for row in (*FIELDS, *FLAGS) if row.at}


class Fixed:
    """Some numbers of a config, by name; they do not change."""

    def __init__(self, **numbers):
        self.__dict__.update(numbers)

    def __getattr__(self, name: str) -> Any:  # for type checkers: see FIELDS
        raise AttributeError(f"no number of a config: {name}")

    def __setattr__(self, name, value):
        raise AttributeError(f"a config does not change: {name}")

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None

    def __repr__(self):
        numbers = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({numbers})"


PARTS = tuple(dict.fromkeys(at.split(".")[0] for at in _PLACES if "." in at))


class Config(Fixed):
    """The numbers a model is made of, by the names of FIELDS: Config("llama", dim=64, ...).

    What FIELDS and FLAGS put at "heads.size" is config.heads.size here. flags: their bits, or each
    by its own name. The parts of OPTIONAL are None where all their numbers are 0. Unchecked: what a
    model may be made of is said by layers/.
    """

    def __init__(self, arch_tag="", flags=0, **numbers):
        given = {field.name: field.default for field in FIELDS if field.at}
        bits = {flag.name: bool(flags & flag.bit) for flag in FLAGS}
        for name, value in {**numbers, "arch_tag": arch_tag}.items():
            if name not in given and name not in bits and value:
                raise TypeError(f"no number of a config: {name}")
            (bits if name in bits else given)[name] = value
        found = {name: {} for name in ["", *PARTS]}
        for at, row in _PLACES.items():
            part, _, name = at.rpartition(".")
            value = given[row.name] if row.name in given else bool(bits[row.name]) == row.when
            found[part][name] = value
        self.__dict__.update(found.pop(""))
        for part, values in found.items():
            there = part not in OPTIONAL or any(values.values())
            self.__dict__[part] = Fixed(**values) if there else None

    def __repr__(self):
        said = {f.name: f.default for f in FIELDS}
        shown = [f"{k}={v!r}" for k, v in self.numbers().items() if v != said.get(k)]
        return f"Config({', '.join(shown)})"

    def numbers(self):
        """{name of a Field: value}, as in the file."""
        out = {field.name: self._at(field.at) if field.at else 0 for field in FIELDS}
        on = [flag.bit for flag in FLAGS if bool(self._at(flag.at)) == flag.when]
        return {**out, "flags": sum(on)}

    def _at(self, place):
        part, _, name = place.rpartition(".")
        holder = getattr(self, part) if part else self
        return 0 if holder is None else getattr(holder, name)

    def changed(self, **numbers):
        """As this one, but for these numbers."""
        flags = {flag.name: numbers.pop(flag.name) for flag in FLAGS if flag.name in numbers}
        return Config(**{**self.numbers(), **numbers}, **flags)

    def kind(self, layer):
        """How tokens meet in a layer: the number of a kind."""
        return self.kinds[layer] if layer < len(self.kinds) else ATTENTION

    def pack(self):
        """-> the 512 bytes of the header page's config."""
        values = self.numbers()
        values["arch_tag"] = values["arch_tag"].encode()[:16]
        return CONFIG.pack(*values.values()).ljust(CONFIG_BYTES, b"\0")


def unpack_config(raw):
    """512 bytes -> {name of a Field: value}, unchecked."""
    numbers = dict(zip((field.name for field in FIELDS), CONFIG.unpack_from(raw)))
    return numbers | {"arch_tag": numbers["arch_tag"].rstrip(b"\0").decode("ascii", "replace")}

"""A GGUF of several files, joined, given any of them."""

import re

from ...errors import ModelError, printable
from .ggufbytes import gguf_one

NAMED = re.compile(r"(?s)(.*-)(\d{5})(-of-)(\d{5})(\.gguf)")


def gguf_file(path):
    """-> ({name: value} of the metadata, [(name, shape, type, mapped bytes)]) of a GGUF, or of all
    the parts that it is one of."""
    fields, tensors = gguf_one(path)
    count = fields.get("split.count", 0)
    if count in (0, 1):
        return fields, tensors
    first, tensors = {}, []
    for i, part in enumerate(part_paths(path, count)):
        own, more = gguf_one(part)
        first = first or own
        check_part(part, own, first, i)
        tensors += more
    check_whole(path, first, tensors)
    return first, tensors


def first_part(path):
    """Of a file with the name of a part the first, which says what the whole is; else the file."""
    named = NAMED.fullmatch(path.name)
    return path.with_name(f"{named[1]}00001{named[3]}{named[4]}{named[5]}") if named else path


def part_paths(path, count):
    """The files of all parts; ModelError if one is not there."""
    named, found = NAMED.fullmatch(path.name), f"{shown(path)}: one of several parts of a GGUF"
    if not named or named[4] != str(count).zfill(5):
        found += f", of {printable(str(count))[:20]} by what it says"
        wants = "expected the name that llama-gguf-split gives, NAME-00001-of-0000N.gguf"
        raise ModelError(f"{found}; {wants}; give all their own names")
    paths = [
        path.with_name(f"{named[1]}{i + 1:05}{named[3]}{named[4]}{named[5]}") for i in range(count)
    ]
    missing = [shown(part) for part in paths if not part.is_file()]
    if missing:
        some = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
        found += f"; {len(missing)} of {count} missing: {some}"
        raise ModelError(f"{found}; expected all of them beside it; finish the download")
    return paths


def shown(path):
    return printable(path.name)[:80]


def check_part(part, own, first, i):
    """ModelError if a file is not the part i that its name says, of the same whole."""
    says = [own.get(f"split.{key}") for key in ("no", "count", "tensors.count")]
    wants = [i, *(first.get(f"split.{key}") for key in ("count", "tensors.count"))]
    if says != wants:
        found = f"{shown(part)}: split.no, split.count, split.tensors.count"
        found += f" are {printable(str(says))[:60]}, expected {printable(str(wants))[:60]}"
        raise ModelError(f"{found}; are all parts of one download?")


def check_whole(path, first, tensors):
    """ModelError if the parts together are not what the first promises."""
    names, total = sorted(row[0] for row in tensors), first.get("split.tensors.count")
    twice = [name for name, after in zip(names, names[1:]) if name == after]
    if twice:
        found = f"{shown(path)}: tensor {printable(twice[0])[:60]} stands in two parts"
        raise ModelError(f"{found}; expected each once; are all parts of one download?")
    if total is not None and total != len(names):
        found = f"{shown(path)}: its parts hold {len(names)} tensors"
        wants = f"expected {printable(str(total))[:20]}"
        raise ModelError(f"{found}; {wants}; are all parts of one download?")

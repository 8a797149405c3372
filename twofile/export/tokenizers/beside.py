"""Where the tokenizer of a source lies."""

from ...errors import ModelError, printable
from ...tokenizer.file import TOKENIZER_MAGIC
from ..settings import first_bytes
from .merges import FILES

FOLDER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "tokenizer.bin")
BESIDE_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer.bin")


def is_finished(path):
    """Whether it is a tokenizer.bin of ours. Where it just lies there it is that of some model.bin:
    nobody knows whether it is a source's."""
    return first_bytes(path, "a tokenizer").startswith(TOKENIZER_MAGIC)


def tokenizer_in_folder(folder):
    """The path of a folder's tokenizer, the first that is there; None if it is in two FILES."""
    for name in FOLDER_FILES:
        if (folder / name).is_file() and not is_finished(folder / name):
            return folder / name
    if all((folder / name).exists() for name in FILES):
        return None
    wants = f"expected one of {', '.join(FOLDER_FILES)}, or {' and '.join(FILES)}"
    raise ModelError(f"{lacking_in(folder)}; {wants}; choose with --tokenizer FILE, or none")


def tokenizer_beside(source):
    """The path of the one tokenizer that lies beside a file; ModelError for none or many."""
    place = source.parent
    found = [place / name for name in BESIDE_FILES if (place / name).is_file()]
    found = [path for path in found if not is_finished(path)]
    found = found or [path for path in sorted(place.glob("tok*.bin")) if not is_finished(path)]
    if len(found) == 1:
        return found[0]
    what = lacking_in(place)
    if found:
        what = f"{printable(str(place))}: {', '.join(p.name for p in found)} are beside the source"
    raise ModelError(f"{what}; expected one; choose with --tokenizer FILE, or none")


def lacking_in(place):
    """What is said of a folder without a tokenizer."""
    finished = [p for p in sorted(place.glob("tok*.bin")) if p.is_file() and is_finished(p)]
    more = f" but {finished[0].name}, of some model.bin," if finished else ""
    return f"{printable(str(place))}: no tokenizer{more} is beside the source"

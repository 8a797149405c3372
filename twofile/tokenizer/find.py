"""Which tokenizer a model has."""

from pathlib import Path

from ..errors import ModelError, printable
from .file import MOST_BYTES
from .tokenizer import Tokenizer


def find_tokenizer(file, path=None):
    """The Tokenizer at path, or else the one inside the model file (of open_model), or beside it;
    None if the model was exported without one. Raises ModelError if it is another model's."""
    c, inside = file.config, file.tensors.get("tokenizer")
    beside = Path(file.path).parent / "tokenizer.bin"
    if path is None and inside is not None:
        tokenizer = Tokenizer(inside.data[: MOST_BYTES + 1].tobytes())
    elif path is None and not any(c.tokenizer_sha256):
        return None  # exported without one: what lies beside it is another model's
    elif path is not None or beside.exists():
        tokenizer = Tokenizer(path or beside)
    else:
        found = f"{printable(str(beside))}: not found; expected this model's tokenizer"
        raise ModelError(f"{found}; copy it there, or name it with -z")
    if any(c.tokenizer_sha256) and tokenizer.sha256 != c.tokenizer_sha256:
        found, want = tokenizer.sha256.hex()[:16], c.tokenizer_sha256.hex()[:16]
        where = printable(str(path or (file.path if inside else beside)))
        raise ModelError(
            f"{where}: tokenizer {found}… is of another model, expected {want}…; "
            "use the one exported with it"
        )
    if tokenizer.n_vocab > c.vocab_size:
        found = f"tokenizer has {tokenizer.n_vocab} tokens, the model {c.vocab_size}"
        raise ModelError(f"{found}; use the one exported with it")
    return tokenizer

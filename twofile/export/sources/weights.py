"""A file of weights, whichever of two formats."""

import zipfile

from ...errors import ModelError, printable
from ..damage import reading
from .torch import is_weight, load_torch

# of a file of them, where they were not allowed
PICKLED = "whose loading can run code elsewhere, not here; expected safetensors"
PICKLED += "; --allow-pickle if you trust where it is from"


def load_weights(path):
    """{name: array} of a torch file that holds nothing else."""
    name = printable(path.name)
    with reading():
        known = path.is_file() and zipfile.is_zipfile(path)
    if not known:
        found = f"{name}: not a zip file of torch.save"
        raise ModelError(f"{found}; expected one of torch 1.6 or later")
    value = load_torch(path)
    if not isinstance(value, dict) or not all(is_weight(v) for v in value.values()):
        found = f"{name}: holds something else than named weights"
        raise ModelError(f"{found}; is it another kind of checkpoint?")
    return {str(name): array for name, array in value.items()}

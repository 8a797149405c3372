"""A file of weights, whichever of two formats."""

import zipfile

import numpy as np

from ...errors import ModelError, printable
from ..damage import reading
from .torch import judged, load_torch

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
    if not isinstance(value, dict) or not all(isinstance(v, np.ndarray) for v in value.values()):
        found = f"{name}: holds something else than named weights"
        raise ModelError(f"{found}; expected a state dict; is it another kind of checkpoint?")
    return {str(key): judged(name, array) for key, array in value.items()}

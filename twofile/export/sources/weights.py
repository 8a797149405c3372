"""A file of weights, whichever of two formats."""

import zipfile

from ...errors import ModelError, printable
from .torch import is_weight, load_torch


def load_weights(path):
    """{name: array} of a torch file that holds nothing else."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise ModelError(
            f"{printable(path.name)}: not a zip file of torch.save; expected one of torch 1.6 or later"
        )
    value = load_torch(path)
    if not isinstance(value, dict) or not all(is_weight(v) for v in value.values()):
        raise ModelError(
            f"{printable(path.name)}: holds something else than named weights; is it another kind of checkpoint?"
        )
    return {str(name): array for name, array in value.items()}

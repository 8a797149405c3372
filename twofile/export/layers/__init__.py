"""The arrays of a source become the tensors of run.py's layers: a room a part, as there."""

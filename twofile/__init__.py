"""A language model is two files: parameters, and a program that runs them."""

from .errors import RELEASE, Busy, MissingFile, ModelError, WrongType, WrongValue
from .memory.memory import Memory
from .model import Model
from .modelfile import open_model, verify
from .sampler import Sampling
from .tokenizer.tokenizer import Tokenizer
from .writer import Chunk, Writer

__version__ = RELEASE
__all__ = [
    "Busy",
    "Chunk",
    "Memory",
    "MissingFile",
    "Model",
    "ModelError",
    "Sampling",
    "Tokenizer",
    "Writer",
    "WrongType",
    "WrongValue",
    "__version__",
    "open_model",
    "verify",
]

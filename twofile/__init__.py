"""A language model is two files: parameters, and a program that runs them."""

from .astreams import AsyncStream
from .callreader import Reader, ToolCall
from .calls import Tools
from .chunk import Chunk
from .chunks import ObjectStream
from .errors import RELEASE, Busy, MissingFile, ModelError, WrongType, WrongValue
from .given import ChatOptions, Message, Options
from .memory.memory import Memory
from .model import Model
from .modelfile import open_model, verify
from .sampler import Sampling
from .streams import Stream
from .tokenizer.tokenizer import Tokenizer
from .told import ChatCompletion, ChatCompletionChunk, ChatMessage, Completion, CompletionChunk
from .writer import Writer

__version__ = RELEASE
__all__ = [
    "AsyncStream",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatMessage",
    "ChatOptions",
    "Busy",
    "Chunk",
    "Completion",
    "CompletionChunk",
    "Memory",
    "Message",
    "MissingFile",
    "Model",
    "ModelError",
    "ObjectStream",
    "Options",
    "Reader",
    "Sampling",
    "Stream",
    "Tokenizer",
    "ToolCall",
    "Tools",
    "Writer",
    "WrongType",
    "WrongValue",
    "__version__",
    "open_model",
    "verify",
]

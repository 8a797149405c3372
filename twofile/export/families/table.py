"""All families that are known."""

from .cohere import COHERES
from .experts import MIXTURES
from .gemma import GEMMAS
from .gpt import GPTS
from .lfm import LFM2
from .llama import LLAMAS
from .norms import OTHER_NORMS
from .qwen import QWENS

FAMILIES = (*LLAMAS, *QWENS, *MIXTURES, *GEMMAS, *OTHER_NORMS, *COHERES, *GPTS, LFM2)

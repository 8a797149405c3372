"""The modes of the program, in one tuple.

Order: of two that are asked for, the one that stands first is named first; modes of one group
stand so in --help; the last one has no flag and is what is done without any.
"""

from .batch import BATCH_MODE
from .bench import BENCH_MODE
from .chat import CHAT_MODE
from .given import CHOICES_MODE, PERPLEXITY_MODE, SCORE_MODE
from .program import PROGRAM_MODE
from .show import INFO_MODE, TOKENIZE_MODE, VERIFY_MODE
from .write import BEST_OF_MODE, TEXT_MODE

MODES = (
    BATCH_MODE,
    CHAT_MODE,
    SCORE_MODE,
    CHOICES_MODE,
    PERPLEXITY_MODE,
    BEST_OF_MODE,
    BENCH_MODE,
    INFO_MODE,
    PROGRAM_MODE,
    VERIFY_MODE,
    TOKENIZE_MODE,
    TEXT_MODE,
)

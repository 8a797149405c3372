"""What is rightly refused, and which differences are right, in words."""

UNNAMED = "the file names no way to cut text: llama.cpp guesses one, and warns; ours is the published model's"
REFUSED = {  # vocabulary -> (part of the message, why)
    "bert-bge": ("bert", "WordPiece"),
    "nomic-bert-moe": ("t5", "unigram"),
}
NO_CHAT = {}  # template -> (part of the message, why)
NO_SYSTEM = {}  # template -> why a system message is refused in words that the template would take
NO_STOP = {"openai-gpt-oss-120b": "<|end|>"}  # template -> a token that ends a part of an answer, not the answer
EXPLAINED = [  # (vocabulary, reference, whether it explains a text that differs, why)
    ("aquila", "llama.cpp", lambda text: True, UNNAMED),
    ("gpt-neox", "llama.cpp", lambda text: True, UNNAMED),
]

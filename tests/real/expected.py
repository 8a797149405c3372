"""What is rightly refused, and which differences are right, in words."""

REFUSED = {  # vocabulary -> (part of the message, why)
    "bert-bge": ("bert", "WordPiece"),
    "nomic-bert-moe": ("t5", "unigram"),
}
NO_CHAT = {}  # template -> (part of the message, why)
NO_SYSTEM = {}  # template -> why a system message is refused in words that the template would take
EXPLAINED = []  # (vocabulary, reference, whether it explains a text that differs, why)

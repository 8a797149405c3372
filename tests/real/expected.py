"""What is rightly refused, and which differences are right, in words."""

from unicodedata import normalize

UNNAMED = ("says not how text is cut", "it names no way to cut text; llama.cpp guesses one, and warns")
REFUSED = {  # vocabulary -> (part of the message, why)
    "aquila": UNNAMED,
    "bert-bge": ("bert", "WordPiece"),
    "nomic-bert-moe": ("t5", "unigram"),
}
NO_CHAT = {}  # template -> (part of the message, why)
# template -> why a system message is refused in words that the template would take
NO_SYSTEM = {"mistralai-Mistral-Nemo-Instruct-2407": "the template puts it into the user's last message"}
# template -> a token that ends a part of an answer, not the answer
NO_STOP = {"openai-gpt-oss-120b": "<|end|>", "Kimi-K3": "<|close|>"}
COMPOSED = "the text is not in form C, which the published tokenizer puts it in and llama.cpp does not"
LACKED = "llama.cpp drops a byte without a token behind merging, tokenizers before it"
NAMED = "llama.cpp takes a token for control by its name, which the file says is none"
WHITE = "llama.cpp's regular expressions see white space and ends of lines as C++ does"
EXPLAINED = [("gpt-neox", "llama.cpp", lambda text: True, UNNAMED[1])]
EXPLAINED += [  # (vocabulary, reference, whether it explains a text that differs, why)
    (name, "llama.cpp", lambda text: normalize("NFC", text) != text, COMPOSED)
    for name in ("command-r", "mpt", "qwen2", "qwen35")
]
EXPLAINED += [
    ("smollm2", "llama.cpp", lambda text: any(ord(ch) < 32 for ch in text), LACKED),
    ("starcoder", "llama.cpp", lambda text: any(ord(ch) >= 0x40000 for ch in text), LACKED),
    ("phi-3", "llama.cpp", lambda text: "</s>" in text, NAMED),
    ("gemma-4", "llama.cpp", lambda text: "<|tool_response>" in text, NAMED),
    ("deepseek-coder", "llama.cpp", lambda text: "<\uff5cfim" in text, NAMED),
    ("deepseek-llm", "llama.cpp", lambda text: any(ch.isspace() and ch not in " \n\r\t" for ch in text), WHITE),
    ("falcon", "llama.cpp", lambda text: any(ch.isspace() and ch not in " \n\r\t" for ch in text), WHITE),
]

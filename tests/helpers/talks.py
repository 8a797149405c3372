"""Chat templates, and a tokenizer with one compiled in."""

import functools
import time

from helpers.vocabularies import byte_bpe
from twofile.export.sandbox import DATE, render
from twofile.export.template import add_chat
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.tokenizer.file import BYTE_BPE, CONTROL
from twofile.tokenizer.tokenizer import Tokenizer

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "", "pad_token": ""}
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}"
    "{% else %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)
DATED = "{{ bos_token }}Today is {{ strftime_now('%d %b %Y') }}.\n" + CHATML
THINKING = (
    "{% for m in messages %}{% generation %}{{ '<|im_start|>' + m.role + '\n' + (m.content.split('</think>')[-1].lstrip('\n')"
    " if m.role == 'assistant' else m.content) + '<|im_end|>' }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "inst": INST, "dated": DATED, "thinking": THINKING}
MARKS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
TALK = [{"role": "user", "content": " Hi \n"}, {"role": "assistant", "content": "\n yes "}, {"role": "user", "content": "why"}]


@functools.lru_cache
def tokenizer_with(template, prefix_first=False):
    """A byte-level tokenizer with control tokens, and that template compiled into it."""
    plain = Tokenizer(byte_bpe())
    n = plain.n_vocab
    fields = dict(kind=BYTE_BPE, pieces=[*plain.pieces, *(m.encode() for m in MARKS)], prio=[-float(n)] * (n + 4))
    fields |= dict(types=[*plain.types.tolist(), *[CONTROL] * 4], pretok=1, eos=261, stops=(261,), classes=plain.classes)
    return Tokenizer(pack_tokenizer(**add_chat(fields, template, SPECIAL, prefix_first)))


def show(tokenizer, ids):
    return b"".join(tokenizer.pieces[i] for i in ids).decode()


def rendered(template, messages):
    (text,) = render(template, SPECIAL, [(messages, True)])
    return text.replace(DATE + "%d %b %Y" + DATE, time.strftime("%d %b %Y"))

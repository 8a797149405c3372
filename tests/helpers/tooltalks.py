"""Chat templates with tools, each with a trait of a family's, and a tokenizer with one compiled in."""

import functools

from helpers.vocabularies import byte_bpe
from twofile.export.template import add_chat
from twofile.export.tokenizers.pack import pack_tokenizer
from twofile.tokenizer.file import BYTE_BPE, CONTROL, USER
from twofile.tokenizer.tokenizer import Tokenizer

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CONTROLS = ["<|start|>", "<|end|>", "<s>", "</s>", "[TOOLS]", "[/TOOLS]", "[CALLS]", "[RESULT]", "[/RESULT]", "[ID]", "[ARGS]"]
WORDS = ["<call>", "</call>", "<|tool_call|>"]  # tokens that a user could write too, were they not a template's marks
TURN = "{{ '<|start|>' + m.role + '\n' + m.content + '<|end|>\n' }}"
GEN = "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
TAGS = (  # a JSON line a tool in the system's message, calls between words, results gathered in a user's turn
    "{% if tools %}<|start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "Tools:{% for t in tools %}{{ '\n' }}{{ t | tojson }}{% endfor %}<|end|>\n"
    "{% elif messages[0].role == 'system' %}{{ '<|start|>system\n' + messages[0].content + '<|end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}" + TURN + ""
    "{% elif m.role == 'assistant' %}<|start|>assistant{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    '{% for c in m.tool_calls %}{{ \'\n<call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</call>' }}{% endfor %}{{ '<|end|>\n' }}"
    "{% elif m.role == 'tool' %}{% if messages[loop.index0 - 1].role != 'tool' %}<|start|>user{% endif %}"
    "{{ '\n<got>\n' + m.content + '\n</got>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|end|>\n' }}{% endif %}{% endif %}{% endfor %}" + GEN
)
BARE = (  # one call, a JSON object that begins where an answer does; tools before the user's first words; results in quotes
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}"
    "{% else %}{% set s = 'Be kind.' %}{% endif %}{{ '<|start|>system\n' + s + '<|end|>' }}"
    "{% if tools %}{{ '<|start|>user\nAnswer in JSON.\n' }}{% for t in tools %}"
    "{{ t | tojson(indent=4) }}{{ '\n\n' }}{% endfor %}"
    "{{ messages[0].content | trim + '<|end|>' }}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}"
    "{{ raise_exception('one call') }}{% endif %}"
    '{% set c = m.tool_calls[0].function %}{{ \'<|start|>assistant\n{"name": "\' + c.name + \'", "parameters": \' }}'
    "{{ c.arguments | tojson }}{{ '}<|end|>' }}{% elif m.role == 'tool' %}"
    "{{ '<|start|>tool\n' }}{{ m.content | tojson }}{{ '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '\n' + m.content | trim + '<|end|>' }}{% endif %}{% endfor %}" + GEN
)
IDS = (  # control tokens around everything, ids of nine letters, tools in front of the last user's words, no text beside calls
    "{{ bos_token }}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and m == users[-1] %}{{ '[TOOLS]' + tools | tojson + '[/TOOLS]' }}{% endif %}"
    "{{ '<|start|>' + m.content + '<|end|>' }}{% elif m.role == 'assistant' %}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}"
    "{% if c.id | length != 9 %}{{ raise_exception('nine letters') }}{% endif %}"
    "{{ '[CALLS]' + c.function.name + '[ID]' + c.id + '[ARGS]' + c.function.arguments | tojson }}{% endfor %}{{ eos_token }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% elif m.role == 'tool' %}"
    "{{ '[RESULT]' + m.tool_call_id + '\n' + m.content + '[/RESULT]' }}{% else %}"
    "{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)
LIST = (  # calls as one list, with ids behind; a tool's own fields
    "{% for m in messages %}{% if m.role == 'system' %}{{ '<|start|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if tools %}[TOOLS]{% for t in tools %}"
    '{{ \'{"name": "\' + t.function.name + \'", "about": "\' + t.function.description }}'
    "{{ '\", \"takes\": ' }}{{ t.function.parameters | tojson }}{{ '}' }}{% endfor %}[/TOOLS]{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}" + TURN + ""
    "{% elif m.role == 'assistant' %}<|start|>assistant\n{{ m.content }}{% if m.tool_calls %}[CALLS]["
    "{% for c in m.tool_calls %}{{ (c.function | tojson)[:-1] + ', \"id\": \"' + c.id + '\"}' }}{% if not loop.last %}"
    ", {% endif %}"
    "{% endfor %}]{% endif %}<|end|>\n{% elif m.role == 'tool' %}"
    "{{ '[RESULT]{\"content\": ' + m.content + ', \"call_id\": \"' + m.tool_call_id + '\"}[/RESULT]\n' }}{% endif %}"
    "{% endfor %}" + GEN
)
PROSE = (  # tools are listed, and calls have no place: they stand in the answer
    "{% if messages[0].role == 'system' %}{{ '<|start|>system\n' + messages[0].content + '<|end|>\n' }}{% endif %}"
    "{% if tools %}<|start|>tools\n{{ tools | tojson(indent=4) }}<|end|>\nAnswer with <|tool_call|> and a list.{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}" + TURN + "{% endif %}{% endfor %}" + GEN
)
THINKS = TAGS.replace(  # thoughts leave answers, but those behind the user's last words
    "{% for m in messages %}",
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
    "{% for m in messages %}{% set c = m.content %}"
    "{% if m.role == 'assistant' and '</think>' in c and loop.index0 < ns.last %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% set m = dict(role=m.role, content=c, tool_calls=m.tool_calls) %}",
)
SYSTEM = (  # tools are JSON of the system's message, results have a role of their own
    "{% for m in messages %}{% if m.role == 'system' and 'tools' in m and m['tools'] %}"
    "{{ '<|start|>system\n' + m.content + '[TOOLS]' + m['tools'] + '[/TOOLS]<|end|>\n' }}{% else %}" + TURN + ""
    "{% endif %}{% endfor %}" + GEN
)
NAMED = (  # tools have another name, and are shown as Python shows them
    "<|start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}Be kind.{% endif %}"
    "{% if xml_tools %}{{ '\n<tool_call></tool_call> calls these:\n' }}"
    "{% for t in xml_tools %}{{ t | string }}{{ '\n' }}{% endfor %}{% endif %}"
    "<|end|>\n{% for m in messages %}{% if m.role == 'tool' %}{{ '<|start|>user\n' + m.content + '<|end|>\n' }}"
    "{% elif m.role != 'system' %}" + TURN + "{% endif %}{% endfor %}" + GEN
)
# how calls stand in contents, where a template has no place for them: before, between, behind
STYLES = {
    "prose": ("<|tool_call|>[", ", ", "]"),
    "system": ("<|tool_call|>[", ", ", "]<|/tool_call|>"),
    "named": ("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
}
FORMS = {
    "tags": TAGS,
    "bare": BARE,
    "ids": IDS,
    "list": LIST,
    "prose": PROSE,
    "thinks": THINKS,
    "system": SYSTEM,
    "named": NAMED,
}


@functools.lru_cache
def fields_with(template, tool_template=None):
    """The fields of a byte-level tokenizer with these control tokens and words, and that template compiled into it."""
    plain = Tokenizer(byte_bpe())
    more = [*CONTROLS, *WORDS, *["<|/tool_call|>"] * (template == SYSTEM)]
    fields = dict(
        kind=BYTE_BPE, pieces=[*plain.pieces, *(m.encode() for m in more)], prio=[-float(plain.n_vocab)] * plain.n_vocab
    )
    fields["prio"] += [-float(plain.n_vocab)] * len(more)
    fields["types"] = [*plain.types.tolist(), *[CONTROL] * len(CONTROLS), *[USER] * (len(more) - len(CONTROLS))]
    fields |= dict(pretok=1, eos=261, stops=(261,), classes=plain.classes)
    return add_chat(fields, template, SPECIAL, False, None, tool_template)


@functools.lru_cache
def tokenizer_of(name):
    return Tokenizer(pack_tokenizer(**fields_with(FORMS[name])))

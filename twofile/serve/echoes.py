"""What a text says together with its prompt, the token that ended it too."""

from ..logprobs import by_label, label
from ..sampler import likeliest, log_softmax


def echoed(model, w, prompt):
    """What a Writer wrote as OpenAI's completion object, behind its prompt. Of log-probabilities
    the last is that of the token that ended it: lm-evaluation-harness asks for one token more than
    it counts, and would leave out one of the prompt's."""
    value = model.echoed(w, prompt)
    choice, t = value["choices"][0], w.tokenizer
    if w.logprobs is not None and w.reason == "eos":
        chances = log_softmax(model.logits(w.ids)[-1:, : t.n_vocab])
        (best,), (row,) = likeliest(chances, w.logprobs).tolist(), chances.tolist()
        token, lists = max(model.ends, key=row.__getitem__), choice["logprobs"]
        lists["tokens"].append(label(t, token))
        lists["token_logprobs"].append(row[token])
        top = by_label(t, [(i, row[i]) for i in best], token, row[token])
        lists["top_logprobs"].append(top)
        lists["text_offset"].append(len(choice["text"]))
    return value

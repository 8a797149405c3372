"""What a text says together with its prompt, the token that ended it too."""

from ..astreams import aread
from ..logprobs import Likelihoods, by_name, label, put_prompt_first
from ..sampler import likeliest, log_softmax


async def echoed(model, w, prompt):
    """What a Writer wrote as OpenAI's completion object, behind its prompt. Of log-probabilities
    the last is that of the token that ended it: lm-evaluation-harness asks for one token more than
    it counts, and would leave out one of the prompt's."""
    value = w.completion(prompt if isinstance(prompt, str) else model.detokenize(prompt))
    if w.logprobs is None:
        return value
    choice, t = value["choices"][0], w.tokenizer
    said = Likelihoods(w.ids[: w.n_prompt], w.logprobs, t.n_vocab)
    if len(said.ids) > 1:
        await aread(model.scheduler, said.ids[:-1], 0, said)
    put_prompt_first(choice["logprobs"], said, t)
    if w.reason == "eos":
        found = []
        take = lambda at, rows: found.append(log_softmax(rows[-1:, : t.n_vocab]))
        await aread(model.scheduler, w.ids, len(w.ids) - 1, take)
        (best,), (row,) = likeliest(found[0], w.logprobs).tolist(), found[0].tolist()
        token, lists = max(model.ends, key=row.__getitem__), choice["logprobs"]
        lists["tokens"].append(label(t, token))
        lists["token_logprobs"].append(row[token])
        lists["top_logprobs"].append(by_name(t, [(i, row[i]) for i in best], token))
        lists["text_offset"].append(len(choice["text"]))
    return value

"""What a model answers, as OpenAI's objects."""

from .calls import tools_asked
from .logprobs import Likelihoods, put_prompt_first
from .options import likeliest_asked, yes_or_no
from .prompts import paged_in
from .streams import read
from .writer import Writer


class Completions:
    """What a Model has of OpenAI's programs."""

    def __call__(self, prompt, max_tokens=None, echo=False, **options):
        """As generate, but -> OpenAI's completion object, a dict; with logprobs=N its legacy lists,
        for the prompt's tokens too if echo."""
        w = Writer(self, prompt, max_tokens, **options)
        list(self.write(w))
        return self.echoed(w, prompt) if yes_or_no("echo", echo) else w.completion()

    def echoed(self, w, prompt):
        """What a Writer wrote as OpenAI's completion object, behind its prompt (str or ids)."""
        value = w.completion(prompt if isinstance(prompt, str) else self.detokenize(prompt))
        if w.logprobs is not None:
            said = Likelihoods(w.ids[: w.n_prompt], w.logprobs, self.tokenizer.n_vocab)
            if len(said.ids) > 1:
                read(self.scheduler, said.ids[:-1], 0, said)
            put_prompt_first(value["choices"][0]["logprobs"], said, self.tokenizer)
        return value

    def create_chat_completion(
        self,
        messages,
        max_tokens=None,
        logprobs=None,
        top_logprobs=None,
        tools=None,
        tool_choice=None,
        parallel_tool_calls=True,
        memory=None,
        **options,
    ):
        """The answer to a conversation, as OpenAI's chat completion object, a dict; options as in
        Writer. logprobs: true, with how many of the likeliest tokens in top_logprobs; or that.
        tools, tool_choice, parallel_tool_calls: as in OpenAI's requests. memory: a Memory, which
        gives the user's last message passages, and the object their "sources"."""
        tools = tools_asked(tools, tool_choice, parallel_tool_calls is not False)
        messages, beside = paged_in(memory, self, messages, max_tokens, tools)
        ids, n = self.encode_chat(messages, tools), likeliest_asked(logprobs, top_logprobs)
        w = Writer(self, ids, max_tokens, logprobs=n, tools=tools, **options)
        list(self.write(w))
        return w.chat_completion() | beside

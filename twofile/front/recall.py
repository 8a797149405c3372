"""Memory on a command line: its flag, what a prompt is given, sources."""

from ..errors import ModelError
from ..memory.memory import Memory
from ..memory.paging import Paged, budget, source_line
from .mode import Flag
from .text import tame

MEMORY = Flag(
    "--memory",
    some=True,
    metavar="FOLDER",
    help="answer from the texts below a folder: what fits the question is read with it",
)


class Recall:
    """What is paged in for the questions of a command line: nothing without --memory. memory: a
    Memory, or None. paged: the Paged of the last question."""

    def __init__(self, model, args):
        self.model, self.paged = model, Paged()
        given = args.memory
        self.memory = None if given is None else Memory(given, model.notice, args.screen)

    def __call__(self, messages, answer, tools=None):
        """The messages with the passages that the user's last needs, as far as there is room beside
        an answer of so many tokens (None: a quarter of the context), and what is told of Tools."""
        if self.memory:
            self.paged = self.memory.page(self.model, messages, answer, tools)
        return self.paged.into(messages)

    def forget(self):
        """The last question is taken back, with what was paged in for it."""
        self.paged = Paged()

    @property
    def room(self):
        """Tokens that passages may take."""
        return budget(self.model.n_ctx) if self.memory else 0

    @property
    def text(self):
        """What was paged in, as one text."""
        return "\n".join(passage.text for passage in self.paged.passages)

    def told(self):
        """What an answer's object has beside the answer."""
        return {"sources": self.paged.sources} if self.memory else {}

    def sources(self):
        """The line under an answer; "" if nothing was paged in."""
        told = [f"[{n}] {source_line(p)}" for n, p in enumerate(self.paged.passages, 1)]
        return f"sources: {'; '.join(told)}" if told else ""

    def context(self):
        """What was paged in for the last question, as /context shows it."""
        if self.memory is None:
            raise ModelError(
                "/context: there is no memory; expected --memory FOLDER; begin with it"
            )
        parts = [
            f"[{n}] {source_line(p)}\n{tame(p.text)}\n\n"
            for n, p in enumerate(self.paged.passages, 1)
        ]
        return "".join(parts) or "nothing is paged in\n"


def check_recall(args):
    """A memory is for questions that a chat template asks. Raises ModelError."""
    if args.memory is not None and args.raw:
        raise ModelError("--memory answers questions, --raw continues text; leave one out")

"""A conversation in a terminal."""

import os
import random
import sys

from ..errors import ModelError, printable, say
from ..files import read_small, replaced
from ..options import line_seed
from ..writer import Writer
from .common import TALK
from .forms import FORM_FLAGS
from .mode import Flag, Mode, prompted
from .text import as_text, report, tame
from .write import write_text

CHAT_FLAG = Flag(
    "--chat",
    "-cnv",
    action="store_true",
    help="a conversation in the terminal; in a pipe one turn",
)

CHAT_HELP = """\
/help          this
/system TEXT   begin again with this system message; without TEXT: with none
/reset         begin again
/regen         another answer to your last message
/save FILE     keep the conversation as JSON
/load FILE     go on with a kept one
/stats         tokens and speed so far
/exit          leave (also Ctrl-D)
A line that ends with \\ goes on in the next. Ctrl-C stops an answer.
"""


SINGLE_TURN = Flag(
    "-st", "--single-turn", action="store_true", help="in a terminal too one turn, then the end"
)


class Chat:
    """A conversation: messages, and the commands of CHAT_HELP. say() writes to the terminal."""

    def __init__(self, model, args, say):
        self.model, self.args, self.say = model, args, say
        self.messages, self.turns, self.new, self.seconds = [], 0, 0, 0.0
        self.seed = random.getrandbits(32) if args.seed is None else args.seed
        self.begin(args.system)

    def begin(self, system):
        self.messages = [{"role": "system", "content": system}] if system else []

    def ids(self):
        """The conversation as ids, without its oldest turns if it has outgrown the context."""
        dropped, limit = 0, self.model.n_ctx
        room = (
            min(limit // 4, 256)
            if self.args.n_predict < 0
            else min(self.args.n_predict, limit // 2)
        )
        while True:
            ids = self.model.encode_chat(self.messages)
            oldest = self.messages[:1] and self.messages[0]["role"] == "system"
            if len(ids) + room <= limit or len(self.messages) - oldest < 3:
                break
            del self.messages[oldest : oldest + 2]
            dropped += 1
        if dropped:
            turns = "turn was" if dropped == 1 else f"{dropped} turns were"
            self.say(f"(the context is full: the oldest {turns} forgotten)\n")
        if len(ids) >= limit:
            found = f"message: {len(ids)} tokens"
            raise ModelError(f"{found}, expected less than the context of {limit}; say it shorter")
        return ids

    def answer(self):
        """Write the answer to the last message. Ctrl-C keeps what is there."""
        args, w = self.args, None
        try:
            limit = None if args.n_predict < 0 else args.n_predict
            seed = line_seed(self.seed, self.turns) if self.turns else self.seed
            w = Writer(self.model, self.ids(), limit, seed=seed, **args.options)
            self.turns += 1
            for chunk in self.model.write(w):
                self.say(chunk.text)
        except KeyboardInterrupt:
            self.say(" (stopped)")
        self.say("\n")
        if w and w.written:
            self.new, self.seconds = self.new + w.count, self.seconds + w.clock[2] - w.clock[1]
            self.messages.append({"role": "assistant", "content": w.written.strip()})
        else:
            self.messages.pop()

    def message(self, text):
        self.messages.append({"role": "user", "content": text})
        try:
            self.answer()
        except ModelError:
            self.messages.pop()
            raise

    def command(self, line):
        """A line that begins with a slash; -> False to leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        if name == "help":
            self.say(CHAT_HELP)
        elif name == "system":
            self.begin(rest)
        elif name == "reset":
            self.begin(
                self.messages[0]["content"]
                if self.messages[:1] and self.messages[0]["role"] == "system"
                else None
            )
        elif name == "regen":
            if self.messages[-1:] and self.messages[-1]["role"] == "assistant":
                self.messages.pop()
                self.answer()
            else:
                raise ModelError(
                    "/regen: there is no answer yet; expected one; say something first"
                )
        elif name == "save" and rest:
            self.save(rest)
        elif name == "load" and rest:
            self.load(rest)
        elif name == "stats":
            written = f"{self.new} written at {self.new / max(self.seconds, 1e-9):.1f} t/s"
            read = f"{len(self.model.fed)} of {self.model.n_ctx} tokens in the context"
            self.say(f"{read}, {written}, seed {self.seed}\n")
        else:
            raise ModelError(
                f"/{printable(name)}: not a command, or it lacks something; expected one of /help"
            )
        return True

    def save(self, path):
        import json

        try:
            with replaced(path) as f:
                f.write(json.dumps(self.messages, indent=1).encode())
        except (OSError, ValueError) as e:
            found = f"{printable(path)}: cannot be written ({printable(str(e))})"
            raise ModelError(f"{found}; expected a file; choose another") from None

    def load(self, path):
        import json

        try:
            messages = json.loads(read_small(path, "a kept conversation", 1 << 26))
            # raises if it is none
            self.model.encode_chat([*messages, {"role": "user", "content": ""}])
        except (ValueError, TypeError, RecursionError):
            raise ModelError(
                f"{printable(path)}: not JSON, expected what /save wrote; give such a file"
            ) from None
        self.messages = messages


def converse(model, args):
    """--chat in a terminal; -> exit code."""
    try:
        import readline  # input() then has history and editing
    except ImportError:
        readline = None
    model.encode_chat([{"role": "user", "content": ""}])  # an error now if it cannot chat
    sys.stdin.reconfigure(errors="surrogateescape")

    def show(text):
        print(tame(text), end="", flush=True)

    talk = Chat(model, args, show)
    show(f"{os.path.basename(model.file.path)}; /help tells more, /exit leaves\n")
    going = True
    while going:
        try:
            if readline and readline.get_current_history_length() > 1000:
                readline.remove_history_item(0)
            line = input("> ")
            while line.endswith("\\"):
                line = line[:-1] + "\n" + input(". ")
            if line.startswith("/"):
                going = talk.command(line)
            elif line.strip():
                line = args.screen(as_text(os.fsencode(line), "the message"))
                report(model, args, line)
                talk.message(line)
                going = not args[SINGLE_TURN]
        except KeyboardInterrupt:
            show("\n")
        except EOFError:
            show("\n")
            return 0
        except ModelError as e:
            say(f"error: {e}")
    return 0


def in_terminal(args):
    return args.promptless and sys.stdout.isatty()


def chat(model, args):
    """--chat: a conversation in a terminal, in a pipe one turn."""
    return converse(model, args) if in_terminal(args) else write_text(model, args)


def check_chat(args):
    """A conversation asks for what is said to it; one turn reads a prompt."""
    if not in_terminal(args):
        prompted(args)


CHAT_MODE = Mode(
    chat, TALK, flags=(CHAT_FLAG, SINGLE_TURN), fits=FORM_FLAGS, check=check_chat, template=True
)

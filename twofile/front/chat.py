"""A conversation in a terminal."""

import os
import signal
import sys

from ..errors import ModelError, printable, say
from ..files import read_small, replaced
from .common import TALK
from .consent import Consent, read_line
from .conversation import Conversation
from .forms import FORM_FLAGS
from .mode import Flag, Mode, prompted
from .recall import MEMORY, check_recall
from .text import as_text, read_prompt, report, tame
from .usage import MCP, TOOLS, YES, Usage, check_unasked, held, tools_of_line
from .write import stats, write_text

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
/tools         what the model may call, and what you said of it
/stats         tokens and speed so far
/context       what --memory paged in for your last message
/exit          leave (also Ctrl-D)
A line that ends with \\ goes on in the next. Ctrl-C stops an answer.
"""


SINGLE_TURN = Flag(
    "-st", "--single-turn", action="store_true", help="in a terminal too one turn, then the end"
)


class Chat:
    """The commands of CHAT_HELP, to a Conversation."""

    def __init__(self, talk, show):
        self.talk, self.show = talk, show

    def command(self, line):
        """A line that begins with a slash; -> False to leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        if name in ("exit", "quit", "bye"):
            return False
        if name == "help":
            self.show(CHAT_HELP)
        elif name == "system":
            self.talk.begin(rest)
        elif name == "reset":
            self.talk.begin(self.talk.system)
        elif name == "regen":
            self.talk.again()
        elif name == "tools":
            self.show(self.talk.usage.listed())
        elif name == "save" and rest:
            self.save(rest)
        elif name == "load" and rest:
            self.load(rest)
        elif name == "context":
            self.show(self.talk.recall.context())
        elif name == "stats":
            talk = self.talk
            written = f"{talk.new} written at {talk.new / max(talk.seconds, 1e-9):.1f} t/s"
            read = f"{len(talk.model.fed)} of {talk.model.n_ctx} tokens in the context"
            self.show(f"{read}, {written}, seed {talk.seed}\n")
        else:
            raise ModelError(
                f"/{printable(name)}: not a command, or it lacks something; expected one of /help"
            )
        return True

    def save(self, path):
        import json

        try:
            with replaced(path) as f:
                f.write(json.dumps(self.talk.messages, indent=1).encode())
        except (OSError, ValueError) as e:
            found = f"{printable(path)}: cannot be written ({printable(str(e))})"
            raise ModelError(f"{found}; expected a file; choose another") from None

    def load(self, path):
        import json

        try:
            messages = json.loads(read_small(path, "a kept conversation", 1 << 26))
        except (ValueError, RecursionError):
            raise ModelError(
                f"{printable(path)}: not JSON, expected what /save wrote; give such a file"
            ) from None
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            found = f"{printable(path)}: is no conversation"
            raise ModelError(f"{found}, expected what /save wrote; give such a file")
        # raises if it is none
        self.talk.encoded([*messages, {"role": "user", "content": ""}])
        self.talk.messages = messages


def converse(model, args, tools):
    """--chat in a terminal; -> exit code."""
    try:
        import readline  # input() then has history and editing
    except ImportError:
        readline = None
    sys.stdin.reconfigure(errors="surrogateescape")

    def show(text):
        print(tame(text), end="", flush=True)

    talk = Conversation(model, args, show, usage_of(model, args, tools, show))
    talk.encoded([{"role": "user", "content": ""}])  # an error now if it cannot chat
    chatting = Chat(talk, show)
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
                going = chatting.command(line)
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


def usage_of(model, args, tools, show):
    """The Usage of tools in a conversation with a model."""
    consent = Consent(show, read_line, args[YES])
    marks = model.tokenizer.markers() if model.tokenizer else ()
    return Usage(tools, consent, show, args.screen, model.notice, model.n_ctx, marks)


def one_turn(model, args, tools):
    """--chat in a pipe, with tools: the answer to stdout, what is called for it to stderr."""
    check_unasked(tools, args)
    usage = usage_of(model, args, tools, lambda text: model.notice(text.rstrip("\n")))
    usage.consent.free = True  # those that are here may run
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # there is nobody to go on for
    talk = Conversation(model, args, lambda text: None, usage)
    talk.message(read_prompt(model, args))
    if talk.messages:
        sys.stdout.write(talk.messages[-1]["content"] + "\n")
        sys.stdout.flush()
    if not args.quiet:
        print(*filter(None, (talk.recall.sources(), stats(talk.last))), sep="\n", file=sys.stderr)


def in_terminal(args):
    return args.promptless and sys.stdout.isatty()


def chat(model, args):
    """--chat: a conversation in a terminal, in a pipe one turn."""
    tools = tools_of_line(args)
    try:
        fit = held(model, tools)
        if in_terminal(args):
            return converse(model, args, fit)
        return one_turn(model, args, fit) if fit else write_text(model, args)
    finally:
        for tool in tools:
            tool.close()


def check_chat(args):
    """A conversation asks for what is said to it; one turn reads a prompt."""
    check_recall(args)
    if not in_terminal(args):
        prompted(args)


CHAT_MODE = Mode(
    chat,
    TALK,
    flags=(CHAT_FLAG, SINGLE_TURN, TOOLS, MCP, YES),
    fits=(MEMORY, *FORM_FLAGS),
    check=check_chat,
    template=True,
)

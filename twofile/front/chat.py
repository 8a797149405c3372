"""A conversation in a terminal."""

import os
import signal
import sys

from ..errors import ModelError
from .commands import Commands
from .common import TALK
from .consent import Consent
from .conversation import Conversation
from .forms import FORM_FLAGS
from .history import History, history_path
from .keyboard import Keyboard
from .mode import Flag, Mode, prompted
from .recall import MEMORY, check_recall
from .text import read_prompt, tame
from .usage import MCP, TOOLS, YES, Usage, check_unasked, held, tools_of_line
from .wrap import columns_of_terminal
from .write import stats, write_text

CHAT_FLAG = Flag(
    "--chat",
    "-cnv",
    action="store_true",
    help="a conversation in the terminal; in a pipe one turn",
)

SINGLE_TURN = Flag(
    "-st", "--single-turn", action="store_true", help="in a terminal too one turn, then the end"
)


def converse(model, args, tools):
    """--chat in a terminal; -> exit code."""
    sys.stdin.reconfigure(errors="surrogateescape")

    def show(text):
        print(tame(text), end="", flush=True)

    keys = Keyboard(History(history_path()))
    usage = usage_of(model, args, tools, show, keys.ask)
    talk = Conversation(model, args, show, usage, columns_of_terminal)
    commands = Commands(talk, args, show)
    talk.begin(talk.system)  # an error now if it cannot chat
    keys.completions = commands.completions
    show(f"{os.path.basename(model.file.path)}; /help tells more, /exit leaves\n")
    going, stopped = True, False
    while going:
        try:
            text, plain = keys.message()
            stopped, turns = False, talk.turns
            if plain and text.startswith("/") and not text.startswith("//"):
                going = commands.command(text)
            elif text.strip():
                show("" if plain else commands.mistaken(text))
                commands.message(text[1:] if plain and text.startswith("//") else text)
            going = going and not (args[SINGLE_TURN] and talk.turns > turns)
        except KeyboardInterrupt:
            show("\n/exit or Ctrl-D leaves\n" if stopped else "\n")
            stopped = True
        except EOFError:
            show("\n")
            return 0
        except ModelError as e:
            show(f"{e}\n")
        except MemoryError:
            show(
                "there is not enough memory for that; say it shorter, or begin with a smaller -c\n"
            )
    return 0


def usage_of(model, args, tools, show, read=input):
    """The Usage of tools in a conversation with a model. read: as Consent's."""
    consent = Consent(show, read, args[YES])
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

"""The command line of the server."""

import importlib.util
import logging
import math
import os
import socket
import sys

from ..command.bundled import bundled
from ..errors import FLAG_OF, MissingFile, ModelError, printable, say
from ..files import read_small
from ..front.habits import LLAMA_SERVER
from ..front.main import safe_streams
from ..front.mode import SET_BY, Flag, Parser
from ..front.spelling import apart
from ..front.usage import held
from ..kernels.cache import CACHE_NAMES
from ..memory.memory import Memory
from ..options import size_asked
from ..tools.mcp import mcp_tools
from ..tools.toolbox import built_in

PACKAGES = "starlette", "uvicorn", "jsonschema", "prometheus_client", "llguidance"
KEY = "TWOFILE_API_KEY"  # of the environment
EXAMPLES = """\
examples:
  twofile serve model.bin
  twofile serve model.bin assistant.bin --port 8000 --idle 300
  TWOFILE_API_KEY=... twofile serve model.bin --host 0.0.0.0

Speaks OpenAI's API at /v1, Anthropic's at /v1/messages, ollama's at /api;
/ is a page to talk on, /metrics for Prometheus, /openapi.json lists it all.
"""

SERVE_FLAGS = (
    Flag(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a model.bin, or NAME=FILE; the first is usual (default: bundled)",
    ),
    Flag("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1, this machine"),
    Flag("--port", type=int, default=8080, metavar="N", help="default 8080; 0 = any that is free"),
    Flag("--api-key", metavar="FILE", help=f"keys, one a line, of those who may ask; or {KEY}"),
    Flag("--allow-host", action="append", default=[], metavar="NAME", help="a name of this server"),
    Flag("--cors", action="append", default=[], metavar="ORIGIN", help="a page that may ask"),
    Flag(
        "-c", "--ctx-size", type=int, default=0, metavar="N", help="context (default the model's)"
    ),
    Flag(
        "-t", "--threads", metavar="N", help="default auto: the cores, fewer while others use them"
    ),
    Flag("--kv", choices=CACHE_NAMES, help="type of the cache (default f16; f32 for f32 models)"),
    Flag("--cache-size", metavar="BYTES", help="of the cache, as 4G (default a quarter of memory)"),
    Flag("--cache-dir", metavar="FOLDER", help="where it goes on when there is no room"),
    Flag("--memory", metavar="FOLDER", help="answer from the texts below it, which are named"),
    Flag(
        "--queue", type=int, default=256, metavar="N", help="who may wait (default 256), else 429"
    ),
    Flag(
        "--timeout", type=float, default=600, metavar="S", help="of a text (default 600), 0 = none"
    ),
    Flag("--max-tokens", type=int, default=0, metavar="N", help="most new tokens of a text"),
    Flag("--max-prompt", type=int, default=0, metavar="N", help="most tokens of a prompt"),
    Flag("--max-body", default="16M", metavar="BYTES", help="of a request (default 16M)"),
    Flag(
        "--idle", type=float, default=600, metavar="S", help="close a model after, 0 = never (600)"
    ),
    Flag("--grace", type=float, default=30, metavar="S", help="to finish texts at the end (30)"),
    Flag("--tools", action="append", default=[], metavar="NAME,…", help="that the page may call"),
    Flag("--mcp", action="append", default=[], metavar="COMMAND", help="... of an MCP server"),
    Flag("-q", "--quiet", action="store_true", help="no line for each request"),
)


def serve_parser():
    import argparse

    ap = Parser(
        prog="twofile serve",
        usage="twofile serve [MODEL ...] [options]",
        description="Serve models to programs that know OpenAI's, Anthropic's or ollama's API.",
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=79),
        allow_abbrev=False,
    )
    for flag in SERVE_FLAGS:
        ap.add_argument(*flag.names, **flag.how)
    return ap


def parsed_args(argv):
    """The command line, checked, as a namespace of what the server needs."""
    ap = serve_parser()
    words, files = apart(argv, SERVE_FLAGS, ap.error, LLAMA_SERVER)
    given = ap.parse_args(words)
    given.models = files
    if not given.models and bundled() is None:
        ap.error("give one model file or more: twofile serve model.bin")
    given.models = given.models or [bundled()]
    try:
        given.max_body = size_asked(given.max_body, "--max-body")
        given.cache_size = size_asked(given.cache_size, "--cache-size")
        if given.threads not in (None, "auto") and not given.threads.isdecimal():
            found = f"-t is {printable(given.threads)}"
            raise ModelError(f"{found}, expected a number of threads or auto; change it")
        given.threads = None if given.threads in (None, "auto") else int(given.threads)
        ranges = {"port": 65535, "queue": 1 << 20, "max_tokens": 1 << 31, "max_prompt": 1 << 31}
        ranges |= dict.fromkeys(("timeout", "idle", "grace"), 1e9)
        for name, most in ranges.items():
            value, least = getattr(given, name), int(name == "queue")
            if not least <= value <= most or math.isnan(value):
                flag = f"--{name.replace('_', '-')}"
                raise ModelError(f"{flag} is {value}, expected {least} to {most:g}; change it")
        given.keys = read_keys(given.api_key)
        given.hosts = [*given.allow_host, given.host]
        given.origins = given.cors
        if not given.keys and not is_loopback(given.host):
            found = f"--host {printable(given.host)} without a key lets everybody in"
            raise ModelError(f"{found}; expected --api-key FILE or {KEY}; give one")
    except ModelError as e:
        ap.error(str(e))
    return given


def is_loopback(host):
    """Whether only this machine can come to an address."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(path):
    """Keys, as bytes: the lines of a file, or of the environment."""
    raw = os.environb.get(KEY.encode(), b"") if hasattr(os, "environb") else b""
    raw = raw or os.environ.get(KEY, "").encode()
    where, given = KEY, path is not None or KEY in os.environ
    if path is not None:
        where = f"--api-key {printable(path)}"
        try:
            raw = read_small(path, "a file of keys", 1 << 16)
        except MissingFile:
            found = "--api-key: no such file"  # which is not told: it may be the key itself
            wants = f"expected one of keys, one a line, or the keys in {KEY}; name it"
            raise ModelError(f"{found}, {wants}") from None
        except OSError as e:
            found = f"{where}: cannot be read ({e.strerror})"
            raise ModelError(f"{found}; expected a file of keys, one a line; name one") from None
    keys = [key.strip() for key in raw.splitlines() if key.strip()]
    short = [key for key in keys if len(key) < 8]
    if short or given and not keys:
        found = "a key of fewer than 8 characters" if short else "no key in it"
        raise ModelError(f"{where}: {found}, expected 8 or more, one a line; make a longer one")
    return keys


def bound_socket(host, port):
    """A socket that listens there. Raises ModelError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, proto, _, address = found[0]
        sock = socket.socket(family, kind, proto)  # with it, asyncio sends small pieces at once
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
        return sock
    except OSError as e:
        found = f"--host {printable(host)} --port {port}: {e.strerror or e}"
        raise ModelError(f"{found}; expected an address that is free; choose another") from None


def shelf_of(given):
    """The Shelf of the models of a command line. Raises ModelError."""
    from .shelf import Entry, Shelf

    settings = {
        "n_ctx": given.ctx_size,
        "n_threads": given.threads,
        "kv": given.kv,
        "verbose": not given.quiet,
        "cache_size": given.cache_size,
        "cache_dir": given.cache_dir,
        "queue": given.queue,
    }
    entries = []
    for word in given.models:
        name, equals, path = word.partition("=")
        if not equals or os.path.exists(word):
            path, name = word, os.path.basename(word).removesuffix(".bin")
        if any(entry.name == name for entry in entries):
            found = f"two models by the name of {printable(name)}"
            raise ModelError(f"{found}, expected one each; give one as NAME=FILE")
        entries.append(Entry(name, path, settings))
    return Shelf(entries, given.idle)


def serve(argv):
    """Serve until a signal comes -> exit code."""
    lacks = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    given = parsed_args(argv)
    if lacks:
        are = "packages which are" if len(lacks) > 1 else "package which is"
        found = f"the server needs the Python {are} not installed: {', '.join(lacks)}"
        raise ModelError(f'{found}; expected them; pip install "twofile[serve]"')
    from .server import run
    from .shelf import opened

    logging.basicConfig(format="twofile: %(message)s", stream=sys.stderr, force=True)
    logging.getLogger("twofile").setLevel(logging.WARNING if given.quiet else logging.INFO)
    given.tools = built_in(given.tools)
    given.tools += mcp_tools(given.mcp, {tool.name for tool in given.tools})
    shelf = shelf_of(given)
    if given.memory is not None:
        given.memory = Memory(given.memory, logging.getLogger("twofile").info)
    sock = bound_socket(given.host, given.port)
    shelf.first.model = opened(shelf.first)  # what is wrong with it is said now
    if given.tools and shelf.first.chats:
        given.tools = held(shelf.first.model, given.tools)
    return run(shelf, given, sock)


def launch_server(argv=None):
    """The program; never returns."""
    safe_streams()
    FLAG_OF.update(SET_BY)
    try:
        code = serve(sys.argv[1:] if argv is None else argv)
    except ModelError as e:
        say(f"error: {e}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)

"""The application: which address is answered by what."""

import asyncio
import base64
import contextlib
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from starlette.responses import Response
from starlette.routing import Route, Router

from .answers import answer
from .anthropic import ANTHROPIC
from .document import document
from .gate import Gate, Log
from .listing import LISTING
from .metrics import Metrics
from .ollama import OLLAMA
from .openai import OPENAI
from .responses import RESPONDING
from .tokens import TOKENS
from .toolbox import TOOLBOX

PAGE = Path(__file__).parent / "page.html"


async def health(request):
    """GET /health"""
    return answer({"status": "ok"})


async def metrics(request):
    """GET /metrics"""
    text = request.app.state.metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def page(request):
    """GET /"""
    raw = PAGE.read_bytes()
    inline = [hashes(raw, tag) for tag in (b"script", b"style")]
    policy = (
        f"default-src 'none'; script-src {inline[0]}; style-src {inline[1]}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    more = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return Response(raw, headers=more, media_type="text/html")


def hashes(raw, tag):
    """The sources of a policy that let in what stands between tags of a page."""
    inside = re.findall(b"<" + tag + b"[^>]*>(.*?)</" + tag + b">", raw, re.S)
    digests = [base64.b64encode(hashlib.sha256(part).digest()).decode() for part in inside]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


async def icon(request):
    """GET /favicon.ico"""
    return Response(status_code=204)


async def openapi(request):
    """GET /openapi.json"""
    return answer(document(ADDRESSES))


ADDRESSES = (  # method, address, what answers it, the schema of its body, how it may stream
    *LISTING,
    *OPENAI,
    *RESPONDING,
    *ANTHROPIC,
    *OLLAMA,
    *TOKENS,
    *TOOLBOX,
    ("GET", "/health", health, None, None),
    ("GET", "/metrics", metrics, None, None),
    ("GET", "/openapi.json", openapi, None, None),
    ("GET", "/", page, None, None),
    ("GET", "/favicon.ico", icon, None, None),
)


def application(shelf, settings):
    """The application (ASGI) of a Shelf. settings: max_body, max_tokens, max_prompt, timeout,
    hosts, keys, origins, tools."""

    @contextlib.asynccontextmanager
    async def life(app):
        watch = asyncio.ensure_future(shelf.watch())
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
        try:
            yield
        finally:
            watch.cancel()
            await shelf.close_all()

    routes = [Route(path, answers, methods=[how]) for how, path, answers, _, _ in ADDRESSES]
    known = {name for *_, schema, _ in ADDRESSES for name in (schema or {}).get("properties", ())}
    state = {"shelf": shelf, "settings": settings, "fields": known, "log": Log()}
    state = SimpleNamespace(**state, metrics=Metrics(shelf))
    return Gate(
        Router(routes, lifespan=life), state, settings.hosts, settings.keys, settings.origins
    )

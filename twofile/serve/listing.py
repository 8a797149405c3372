"""Which models there are, as OpenAI's clients ask, and ollama's."""

import time

from ..errors import RELEASE
from .answers import answer
from .asked import asked
from .fields import OLLAMA_SHOW


def now(seconds=None):
    """A time as ollama writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


async def models(request):
    """GET /v1/models"""
    found = [model_object(entry) for entry in request.app.state.shelf.entries.values()]
    return answer({"object": "list", "data": found})


async def one_model(request):
    """GET /v1/models/{model}"""
    return answer(model_object(request.app.state.shelf.find(request.path_params["model"])))


def model_object(entry):
    about = entry.about
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": "twofile",
        "chat": entry.chats,
        "tools": entry.chats,
        "context": entry.context(),
        "loaded": entry.model is not None,
        "meta": {name: about[name] for name in ("architecture", "parameters", "type", "bytes")},
    }


def details(entry):
    about = entry.about
    return {
        "parent_model": "",
        "format": "twofile",
        "family": about["architecture"],
        "families": [about["architecture"]],
        "parameter_size": f"{about['parameters'] / 1e6:.1f}M",
        "quantization_level": about["type"],
    }


def listed(entry):
    return {
        "name": entry.name,
        "model": entry.name,
        "modified_at": now(entry.created),
        "size": entry.size,
        "digest": entry.about["model_id"],
        "details": details(entry),
    }


async def tags(request):
    """GET /api/tags"""
    return answer({"models": [listed(e) for e in request.app.state.shelf.entries.values()]})


async def running(request):
    """GET /api/ps"""
    found = [e for e in request.app.state.shelf.entries.values() if e.model]
    return answer({"models": [listed(e) | {"size_vram": 0} for e in found]})


async def version(request):
    """GET /api/version"""
    return answer({"version": RELEASE})


async def show(request):
    """POST /api/show"""
    body = await asked(request, OLLAMA_SHOW)
    entry = request.app.state.shelf.find(body.get("model") or body.get("name"))
    about = entry.about
    form = about["chat"] or {}
    return answer(
        {
            "modelfile": f"FROM {entry.name}",
            "parameters": "\n".join(f"{k} {v}" for k, v in (about["sampling"] or {}).items()),
            "template": "".join(form.values()),
            "details": details(entry),
            "model_info": {
                "general.architecture": about["architecture"],
                "general.parameter_count": about["parameters"],
                f"{about['architecture']}.context_length": about["max_ctx"],
                f"{about['architecture']}.embedding_length": about["dim"],
                f"{about['architecture']}.block_count": about["layers"],
            },
            "capabilities": ["completion", "embedding", *["tools"] * entry.chats],
            "modified_at": now(entry.created),
        }
    )


LISTING = (  # see app.py
    ("GET", "/v1/models", models, None, None),
    ("GET", "/v1/models/{model:path}", one_model, None, None),
    ("GET", "/api/tags", tags, None, None),
    ("GET", "/api/ps", running, None, None),
    ("GET", "/api/version", version, None, None),
    ("POST", "/api/show", show, OLLAMA_SHOW, None),
)

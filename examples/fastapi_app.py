"""
A service of two addresses with a model inside, by FastAPI: one answers JSON, one sends the text as it is written.

    uvicorn --app-dir examples fastapi_app:app
    curl -s http://127.0.0.1:8000/answer -H "Content-Type: application/json" -d '{"prompt": "The fox", "seed": 1}'
    curl -sN http://127.0.0.1:8000/text -H "Content-Type: application/json" -d '{"prompt": "The fox", "seed": 1}'

The model is opened once. Requests share each pass; each gets the text that it would get alone. A client that goes away gives
its place back. One process is enough: more of them (--workers) would share no passes.
"""

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

try:
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.responses import JSONResponse, StreamingResponse
    from pydantic import BaseModel, Field
except ImportError:
    sys.exit("fastapi_app.py: needs FastAPI, which is not installed: pip install fastapi uvicorn")

FOLDER = Path(os.environ.get("TWOFILE", Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(FOLDER))

from run import Model, ModelError  # noqa: E402


@asynccontextmanager
async def lifespan(app):
    with Model(FOLDER / "model.bin", verbose=False, queue=100) as app.state.model:
        yield


app = FastAPI(lifespan=lifespan)


class Ask(BaseModel):
    prompt: str
    max_tokens: int = Field(60, ge=1, le=1000)
    temperature: float = 0.8
    seed: int | None = None


def begun(ask, request):
    """The AsyncStream of what was asked for."""
    try:
        return request.app.state.model.astream(**ask.model_dump(), deadline=60)
    except ModelError as e:
        raise HTTPException(400, str(e)) from None


@app.exception_handler(ModelError)
async def refused(request, error):
    """What begun() let through is not the asker's fault: a full queue, say."""
    return JSONResponse({"detail": str(error)}, 503)


@app.post("/answer")
async def answer(ask: Ask, request: Request):
    async with begun(ask, request) as stream:
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            if await request.is_disconnected():
                return Response(status_code=499)  # nobody reads it
    return {"text": "".join(chunk.text for chunk in chunks), "finish_reason": chunks[-1].finish_reason}


@app.post("/text")
async def text(ask: Ask, request: Request):
    stream = begun(ask, request)
    first = await anext(stream)  # what is wrong before the first token is still a status

    async def rest():
        async with stream:
            yield first.text
            async for chunk in stream:
                yield chunk.text

    return StreamingResponse(rest(), media_type="text/plain; charset=utf-8")

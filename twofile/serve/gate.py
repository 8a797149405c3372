"""Who may come in: hosts, origins, keys; the log of requests."""

import hashlib
import hmac
import ipaddress
import logging
import random
import re
import time
import traceback

from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..errors import printable
from .answers import Gone, answer
from .refusals import Refused, refusal, told

OPEN = "/", "/health", "/favicon.ico"  # needs no key
OWN_ID = re.compile(r"[\w.:-]{1,64}")
LOG = logging.getLogger("twofile.serve")


class Log:
    """One line for a request, without anything of what it says."""

    def request(self, scope, status, seconds, number):
        client, path = (scope.get("client") or ("?",))[0], known_path(scope) or "an unknown path"
        LOG.info("%s %s %s %s %.3f s %s", client, scope["method"], path, status, seconds, number)

    def failed(self, error):
        """Where an error came from that is no client's; not what it says, which may be theirs."""
        if not isinstance(error, HTTPException) and refusal(error).status == 500:
            where = "".join(traceback.format_tb(error.__traceback__))
            LOG.error("%s at\n%s", type(error).__name__, where.rstrip())


def known_path(scope):
    """The address of a request as the table of addresses has it; None if it is not there."""
    if not scope.get("endpoint"):
        return None
    return "/v1/models/{model}" if scope.get("path_params") else scope["path"]


def name_of(host):
    """A Host header without its port, in small letters."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]@\s]+)(?::\d{1,5})?", host)
    return found[1].strip("[]").rstrip(".").lower() if found else None


def is_address(name):
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


class Gate:
    """What stands before an application (ASGI).

    hosts: names that a Host header may say, beside localhost and addresses. keys: of those who may
    come in, bytes; none = everybody. origins: pages of others that may ask.
    """

    def __init__(self, app, state, hosts=(), keys=(), origins=()):
        self.app, self.state = app, state
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.keys, self.origins = [hashlib.sha256(key).digest() for key in keys], set(origins)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        number, began = self.number(headers), time.perf_counter()
        sent = []

        async def sending(message):
            if message["type"] == "http.response.start":
                sent.append(message["status"])
                message = {
                    **message,
                    "headers": [*message["headers"], *self.added(headers, number)],
                }
            await send(message)

        scope["app"] = self  # whose state handlers ask for
        try:
            self.check(scope, headers)
            if scope["method"] == "OPTIONS" and headers.get(b"origin"):
                await Response(status_code=204)(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        except Gone:
            sent = sent or [499]  # nobody is told
        except Exception as e:
            self.state.log.failed(e)
            if sent:
                raise
            await self.refuse(e, scope, receive, sending, number)
        finally:
            seconds, status = time.perf_counter() - began, (sent or [500])[0]
            self.state.log.request(scope, status, seconds, number)
            self.state.metrics.answered(known_path(scope) or "none", status, seconds)

    def number(self, headers):
        """A request's id: its own, if that is one, or else a new one."""
        own = headers.get(b"x-request-id", "")
        return own if OWN_ID.fullmatch(own) else f"req_{random.getrandbits(96):024x}"

    def added(self, headers, number):
        """Headers of every answer."""
        ids = b"x-request-id", b"request-id"  # the second is Anthropic's
        more = [(b"x-content-type-options", b"nosniff"), *((i, number.encode()) for i in ids)]
        origin = headers.get(b"origin")
        if origin in self.origins:
            wants = headers.get(b"access-control-request-headers", "authorization, content-type")
            more += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"vary", b"Origin"),
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-allow-headers", wants.encode("latin-1")),
                (b"access-control-expose-headers", b"x-request-id, retry-after"),
                (b"access-control-max-age", b"600"),
            ]
        return more

    def check(self, scope, headers):
        """Raises Refused for who may not come in."""
        host = headers.get(b"host", "")
        name = name_of(host)
        if name is None or not (name in self.hosts or is_address(name)):
            found = f"Host is {host[:80]!r}"
            raise Refused(
                403, f"{found}, expected localhost or an address; or start with --allow-host"
            )
        origin = headers.get(b"origin")
        own = origin in (f"http://{host}", f"https://{host}")
        if origin is not None and not own and origin not in self.origins:
            found = f"Origin is {origin[:80]!r}"
            raise Refused(403, f"{found}, expected none or this server's; or start with --cors")
        if self.keys and scope["method"] != "OPTIONS" and scope["path"] not in OPEN:
            self.check_key(headers)

    def check_key(self, headers):
        bearer = headers.get(b"authorization", "")
        given = bearer[7:] if bearer[:7].lower() == "bearer " else headers.get(b"x-api-key", "")
        digest = hashlib.sha256(given.strip().encode("latin-1")).digest()
        if sum(hmac.compare_digest(digest, key) for key in self.keys) == 0:  # all are compared
            found = "a wrong API key" if given else "no API key"
            wants = "expected Authorization: Bearer KEY"
            raise Refused(401, f"{found}, {wants}; give the server's", code="invalid_api_key")

    async def refuse(self, error, scope, receive, send, number):
        """The answer to a request that none can be given to."""
        allowed = None
        if isinstance(error, HTTPException):
            found = {404: "no such address", 405: f"method {scope['method']}"}
            what = f"{printable(scope['path'][:80])}: {found.get(error.status_code, error.detail)}"
            allowed = error.headers
            wants = "expected one of those that GET /openapi.json lists; ask one"
            error = Refused(error.status_code, f"{what}, {wants}")
        refused = refusal(error, self.state.fields)
        headers = dict(allowed or {}) | (
            {"retry-after": str(refused.retry)} if refused.retry else {}
        )
        if refused.status == 401:
            headers["www-authenticate"] = "Bearer"
        value = told(refused, scope["path"], number)
        await answer(value, refused.status, headers)(scope, receive, send)

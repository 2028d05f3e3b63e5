"""Which answer a request gets: the page, the stream, a picture, the figures, or a refusal that says why."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from edgeinfer.frozen import dataclass
from edgeinfer.live.shown import Status
from edgeinfer.preview.access import Access
from edgeinfer.preview.figures import answers_of, figures, plain_json
from edgeinfer.preview.http import Request, answer
from edgeinfer.preview.pictures import Pictures

# Labels and shares are counted anew at most so often, however many people look: a mask costs milliseconds.
_ANSWERS_S = 0.2
_NAME = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_PLAIN = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_HOST_CURE = (
    "This page answers to localhost only. Open http://localhost:PORT/ on the device, or from another machine through\n"
    "    ssh -L PORT:localhost:PORT THE-DEVICE\n"
    "or let the page have an address of the network and a token: --bind 0.0.0.0:PORT --token ...\n"
)


@dataclass(frozen=True, slots=True)
class Stream:
    """What a request for the stream gets: pictures until somebody ends it.

    Attributes:
        viewer: The name that a page has given itself, or "".
    """

    viewer: str


class Site:
    """The routes of one page.

    Args:
        pictures: Where the pictures come from.
        access: Who is let in.

    Attributes:
        ask: Gives the status while no frame brings one; None where nobody does.
    """

    def __init__(self, pictures: Pictures, access: Access) -> None:
        self._pictures, self._access = pictures, access
        self.ask: Callable[[], Status] | None = None
        self._page, self._page_policy = _document("page.html")
        self._door, self._door_policy = _document("token.html")
        self._answers: list[dict[str, object]] = []
        self._answers_at = float("-inf")

    def reply(self, request: Request, viewers: dict[str, int]) -> bytes | Stream:
        """Return the whole answer, or `Stream` for the one without an end.

        Args:
            request: Of anybody.
            viewers: How many streams each viewer's name has now.
        """
        if request.method not in ("GET", "HEAD"):
            return answer(405, "This page is only for looking.\n", fields="Allow: GET, HEAD\r\n")
        if not self._access.allows(request):
            return self._refusal(request)
        if request.path == "/":
            if self._access.named_in_query(request):
                # The token goes from the address, where people would see and copy it, into a cookie.
                return answer(303, fields=f"Location: /\r\nSet-Cookie: {self._access.cookie}\r\n")
            return answer(200, self._page, kind="text/html", policy=self._page_policy)
        if request.path == "/stream.mjpg":
            return Stream(_viewer(request))
        if request.path == "/frame.jpg":
            return self._frame()
        if request.path == "/status.json":
            return self._status(_viewer(request), viewers)
        return answer(404, "There is /, /stream.mjpg, /frame.jpg and /status.json.\n")

    def _refusal(self, request: Request) -> bytes:
        if self._access.token is None:
            return answer(403, _HOST_CURE.replace("PORT", str(self._access.port)))
        fields = "WWW-Authenticate: Bearer\r\n"
        if request.path == "/":
            return answer(401, self._door, kind="text/html", policy=self._door_policy, fields=fields)
        return answer(401, "This page needs its token: ?token=... or Authorization: Bearer ...\n", fields=fields)

    def _frame(self) -> bytes:
        picture, _ = self._pictures.newest()
        if picture is None:
            return answer(503, "There is no picture yet.\n", fields="Retry-After: 1\r\n")
        return answer(200, picture.jpeg, kind="image/jpeg")

    def _status(self, viewer: str, viewers: dict[str, int]) -> bytes:
        now = monotonic()
        if now - self._answers_at >= _ANSWERS_S:
            self._answers = answers_of(self._pictures.latest)
            self._answers_at = now
        values = figures(self._pictures, self._answers, self.ask)
        values["viewers"] = sum(viewers.values())
        values["watching"] = viewers.get(viewer, 0) > 0
        return answer(200, plain_json(values), kind="application/json")


def _viewer(request: Request) -> str:
    name = request.query.get("viewer", "")
    return name if _NAME.fullmatch(name) else ""


def _document(name: str) -> tuple[bytes, str]:
    """Return a page and the policy that lets its own script and style run and nothing else."""
    import hashlib

    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    sources: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _PLAIN.findall(text):
        digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    policy = (
        "default-src 'none'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; script-src {' '.join(sources['script'])}; style-src {' '.join(sources['style'])}"
    )
    return text.encode(), policy

"""What Gradio keeps of every session, kept only as long as somebody can come back to it.

A session holds a copy of every component's configuration: a third of a megabyte for this page, in a
thousand small objects that each full garbage collection walks. A plain HTTP call is a session of its
own, so a program that asks for ``/status`` twice a second would fill a gigabyte in half an hour.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: Sessions that are kept, those of calls whose answers nobody reads among them; a page that is left alone while as
#: many others open starts afresh at its next click.
MOST = 1000
AFTER = 1.0  # seconds from an answer to when its session goes
_ANSWER = re.compile(r"/call/\w+/(?P<event>\w+)/?$")


class Forget:
    """Drops the session of a plain HTTP call once its answer has been read."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        answer = _ANSWER.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        try:
            await self.app(scope, receive, send)
        finally:
            if answer is not None:  # Gradio names such a session after its event, and looks at it once more
                asyncio.get_running_loop().call_later(AFTER, _drop, scope["app"].state_holder, answer["event"])


def _drop(holder: Any, session: str) -> None:
    holder.session_data.pop(session, None)
    holder.time_last_used.pop(session, None)


def forgetful() -> list[Middleware]:
    """The middleware for ``launch``."""
    return [Middleware(Forget)]

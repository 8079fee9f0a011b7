"""Doors that Gradio leaves open and this page does not need: it neither fetches nor relays addresses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import gradio as gr
from gradio import processing_utils
from starlette.middleware import Middleware

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_RELAYS = ("/file=http:", "/file=https:", "/proxy=")


class Guard:
    """Refuses to stream what lies on other servers."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and any(relay in scope["path"].lower() for relay in _RELAYS):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)


def shut() -> list[Middleware]:
    """Keep Gradio from fetching addresses that are given in place of files; the middleware for ``launch``.

    It would read the whole answer into memory, of any size, before anything here is asked.
    """

    async def refuse(url: str, cache_dir: str) -> str:  # noqa: ARG001 - what it replaces is called so
        raise gr.Error("Give the file itself, not its address.", print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse
    return [Middleware(Guard)]

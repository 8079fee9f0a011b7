"""A hub on this machine, as far as downloads need one: it serves folders as repositories."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "5" * 40


class Hub(ThreadingHTTPServer):
    """Serves ``folder/OWNER/NAME/...``.

    Attributes:
        asked: paths of the files that were sent, with the byte each began at.
        cut: how many bytes of a file are sent before the connection breaks, once; None sends all.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.cut = folder, None
        self.asked: list[tuple[str, int]] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._file(send=False)

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.split("/")
        if parts[1:3] == ["api", "models"]:
            kind, revision = (parts[5], unquote(parts[6])) if len(parts) > 6 else ("revision", "main")
            self._repository(self.server.folder / parts[3] / parts[4], kind, revision)
        else:
            self._file(send=True)

    def _repository(self, folder: Path, kind: str, revision: str) -> None:
        if not folder.is_dir() or revision not in ("main", COMMIT):
            code = "RepoNotFound" if not folder.is_dir() else "RevisionNotFound"
            return self._say(404, b"{}", {"X-Error-Code": code})
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        body: object = {"id": "/".join(folder.parts[-2:]), "sha": COMMIT, "siblings": []}
        if kind == "tree":
            body = [{"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size,
                     "oid": hashlib.sha1(p.read_bytes()).hexdigest()} for p in files]  # fmt: skip
        return self._say(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, send: bool) -> None:
        _, owner, name, _, _, *inside = urlsplit(self.path).path.split("/")
        path = self.server.folder.joinpath(owner, name, *map(unquote, inside))
        if not path.is_file():
            return self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        begin = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0]) if send else 0
        if send:
            self.server.asked.append((path.name, begin))
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return self._say(206 if begin else 200, content[begin:], headers, send)

    def _say(self, status: int, body: bytes, headers: dict[str, str], send: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.server.cut
        if send and cut is not None and len(body) > cut:
            self.server.cut = None
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif send:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """Serve a folder of repositories while the context is open."""
    hub = Hub(folder)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()

"""``app.py`` under an emulated ZeroGPU: real forks, pickling and durations, a stub for the scheduler.

Run as a program with the file to which the seconds asked for are appended. The environment must say
SPACES_ZERO_GPU and SPACES_ZERO_DEVICE_API_URL, as a Space's does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse


class Scheduler(BaseHTTPRequestHandler):
    """Lends its only device to whoever asks."""

    asked: Path

    def do_POST(self) -> None:
        address = urlparse(self.path)
        if address.path == "/schedule":
            seconds = parse_qs(address.query)["durationSeconds"][0]
            with self.asked.open("a") as log:
                log.write(seconds + "\n")
        answer = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "x", "allowToken": "t"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    """Lay the stub under spaces and serve."""
    Scheduler.asked = Path(sys.argv[1])
    port = int(os.environ["SPACES_ZERO_DEVICE_API_URL"].rsplit(":", 1)[1])
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Scheduler).serve_forever, daemon=True).start()
    import torch

    torch.version.cuda = "12.8"
    torch._C._cuda_init = lambda: None
    torch.cuda._is_in_bad_fork = bool
    torch.set_num_threads(1)  # threads do not survive a fork
    import spaces.zero.torch as zero

    zero.init = lambda _: None
    zero.move = lambda callback=None: None
    sys.path.insert(0, str(Path.cwd()))
    import app

    return app.main()


if __name__ == "__main__":
    sys.exit(main())

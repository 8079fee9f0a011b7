"""A compact inference core for the open Wan video models.

``pipe = wan_core.load(model)``, then ``for event in pipe.run(request)``, or in one line
``pipe(prompt="a red ball bouncing on grass").save("ball.mp4")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wan_core.errors import WanError
from wan_core.specs import SPECS
from wan_core.types import Request
from wan_core.weights.hub import BUILT_IN, CACHE, SPEAKER

if TYPE_CHECKING:
    from wan_core.assembly import load
    from wan_core.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["BUILT_IN", "CACHE", "SPEAKER", "SPECS", "Pipeline", "Request", "WanError", "load"]


def __getattr__(name: str) -> Any:
    """Import the pipeline, and with it torch, only when it is first asked for."""
    if name in ("Pipeline", "load"):
        from wan_core import assembly

        return getattr(assembly, name)
    raise AttributeError(f"module 'wan_core' has no attribute {name!r}")

"""Nothing that a test does is kept where a user's own cache is."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

# one of several processes, whose threads would wait for each other's cores
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is first imported


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes that tests start inherit a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAN_CACHE", str(tmp_path_factory.mktemp("memo")))
        yield

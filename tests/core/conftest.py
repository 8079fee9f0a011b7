"""A folder of jobs and its ledger, for tests of either."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_core.studio.jobs import Jobs
from wan_core.studio.ledger import Ledger


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "outputs")


@pytest.fixture
def ledger(jobs: Jobs) -> Ledger:
    return Ledger(jobs)

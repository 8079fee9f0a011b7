"""``python -m tests.golden DIR``: print ``folder/case max_abs_err`` for every case."""

import sys
from pathlib import Path

from tests.golden.runner import DATA, cases, error_of, tolerance


def main() -> int:
    """Run every case; the exit status is 1 if any is off or there are none."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    passed = []
    for folder, case in cases(root):
        error = error_of(folder, case)
        passed.append(error <= tolerance(folder.name))
        print(f"{folder.name}/{case.stem} {error:.3e}")
    return int(not passed or not all(passed))


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.golden DIR``: print ``folder/case max_abs_err`` for every case."""

import sys
from pathlib import Path

from tests.golden.runner import DATA, TOLERANCE, cases, error_of


def main() -> int:
    """Run every case; the exit status is 1 if any is off or there are none."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    errors = []
    for folder, case in cases(root):
        errors.append(error_of(folder, case))
        print(f"{folder.name}/{case.stem} {errors[-1]:.3e}")
    return int(not errors or max(errors) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

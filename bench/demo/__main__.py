"""Command line of the demo data set: `python -m bench.demo --cache DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.demo.dataset import DEFAULT_COUNTS, prepare
from bench.reasons import UsageError


def main() -> int:
    """Render the data set from the command line and print the path of its data file."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=main.__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder to render into")
    parser.add_argument("--train", type=int, default=0, metavar="N", help="training images too (0: none)")
    parser.add_argument("--val", type=int, default=DEFAULT_COUNTS["val"], metavar="N", help="validation images")
    parser.add_argument("--calib", type=int, default=DEFAULT_COUNTS["calib"], metavar="N", help="calibration images")
    parser.add_argument("--workers", type=int, default=1, help="rendering processes")
    given = parser.parse_args()
    counts = {"val": given.val, "calib": given.calib}
    if given.train:
        counts["train"] = given.train
    try:
        print(prepare(given.cache, counts, counts=counts, workers=given.workers))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

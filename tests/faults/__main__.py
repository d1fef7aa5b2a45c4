"""`python -m faults`, with the folder of tests on Python's path."""

from __future__ import annotations

import sys

from faults.campaign import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

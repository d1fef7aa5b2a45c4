"""Keeps CPUs busy with real work until its standard input ends: `python -s -P busy.py --cpus 0,1`.

A thread per CPU multiplies matrices that fill a cache.  The end of the input, which comes also when whoever started
this died, ends it at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

import numpy as np

SIDE = 512
"""Of the matrices: three of them are 3 MB."""


def multiply(cpu: int) -> None:
    """Multiply for ever on one CPU."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    one = np.full((SIDE, SIDE), 0.5, np.float32)
    product = np.empty_like(one)
    while True:
        np.matmul(one, one, out=product)


def main() -> None:
    """Start the threads, say so in one line, and wait for the end of the input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpus", required=True)
    for cpu in parser.parse_args().cpus.split(","):
        threading.Thread(target=multiply, args=(int(cpu),), daemon=True).start()
    sys.stdout.write("busy\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

"""Other CPUs kept busy while something is measured, as other tenants of a machine do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.interrupts import running
from bench.places import GUEST
from bench.reasons import UsageError

PROGRAM = GUEST / "busy.py"
_GRACE_S = 5.0


@contextmanager
def busy(cpus: Sequence[int]) -> Iterator[None]:
    """Matrix products on these CPUs meanwhile; they end however this does, also when this process is killed.

    Raises UsageError where the program does not start.
    """
    command = [sys.executable, "-s", "-P", str(PROGRAM), "--cpus", ",".join(map(str, cpus))]
    # A BLAS with threads of its own would work on the guests' CPUs as well.
    variables = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"busy\n":
            raise UsageError(f"cannot keep CPUs busy: {PROGRAM.name} ended with exit code {process.wait(_GRACE_S)}")
        yield

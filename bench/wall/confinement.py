"""What guests may reach: no network, and no file to write but their own, where the system takes that from them.

Whether it does is tried once per process, on a process of its own: a refusal halfway would leave a guest in a state
that nobody asked for.  `bench/guest/seal.py` does it, in the guest.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.guest.seal import FREE, NETWORK, WRITES
from bench.interrupts import running
from bench.places import GUEST

SEAL = GUEST / "seal.py"
VARIABLE = "BENCH_CONFINEMENT"
"""`off` leaves guests the network and all files, for what cannot run otherwise; their rows say so."""
ALLOWED = "allowed"
_SECONDS = 60.0


@dataclass(frozen=True)
class Confinement:
    """What a guest may reach beside its own folder and its home: the `network`, and folders that it may write to.

    `writable` None: every file.
    """

    network: bool = False
    writable: tuple[Path, ...] | None = ()

    def arguments(self, own: Sequence[Path]) -> list[str]:
        """How a guest is told so on its command line; its `own` folders may be written to as well."""
        words = ["--network"] if self.network or NETWORK in refusals() else []
        for folder in self.folders(own):
            words += ["--writable", folder]
        return words

    def folders(self, own: Sequence[Path]) -> list[str]:
        """Where a guest may write, and nowhere else; none where it may everywhere, or this system takes that from none.

        Its `own` are among them.
        """
        if self.writable is None or WRITES in refusals():
            return []
        return [str(folder) for folder in (*own, *self.writable)]

    def told(self, report: Mapping[str, str]) -> dict[str, str]:
        """What became of it, in words by what it is about, of what a guest reports."""
        freely = {NETWORK: self.network, WRITES: self.writable is None}
        return {
            what: ALLOWED if free else report.get(what) or refusals().get(what, FREE) for what, free in freely.items()
        }


CONFINED = Confinement()
UNCONFINED = Confinement(network=True, writable=None)


@functools.cache
def refusals() -> Mapping[str, str]:
    """What this system takes from no process, and why, in words by what it is about; empty where it takes all."""
    both = (NETWORK, WRITES)
    if os.environ.get(VARIABLE) == "off":
        return dict.fromkeys(both, f"{FREE}: {VARIABLE}=off")
    with tempfile.TemporaryDirectory(prefix="bench-seal-") as folder:
        command = [sys.executable, "-I", "-S", str(SEAL), "--writable", folder]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        try:
            with running(command, cwd=folder, env={}, **pipes) as trial:
                told, said = trial.communicate(timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            return dict.fromkeys(both, f"{FREE}: a trial failed: {error}")
    if trial.returncode:
        why = (said.strip().splitlines() or ["it said nothing"])[-1]
        return dict.fromkeys(both, f"{FREE}: a trial ended with {trial.returncode}: {why}")
    report: dict[str, str] = json.loads(told)
    return {what: said for what, said in report.items() if said.startswith(FREE)}

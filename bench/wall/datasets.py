"""The data files that ultralytics brings, by name: `--data coco8.yaml` works as it does there."""

from __future__ import annotations

from pathlib import Path

from bench.environments.locked import Environments
from bench.places import EXPORTERS
from bench.reasons import CellProblem, UsageError, did_you_mean
from bench.wall.checkpoint import ENVIRONMENT
from bench.wall.worker import Worker

READER = EXPORTERS / "datasets.py"
_SECONDS = 60.0


def brought(name: str, environments: Environments) -> Path:
    """The data file that ultralytics has under a name such as coco8 or coco8.yaml; its data lies elsewhere.

    Raises UsageError where there is none, or where that cannot be found out.
    """
    text = f"--data {name}: no such file here"
    try:
        env = environments.ensure(ENVIRONMENT)
        with Worker(env.python, READER, variables=environments.variables()) as guest:
            known = guest.call("known", {}, timeout=_SECONDS)
    except CellProblem as problem:
        raise UsageError(
            f"{text}, and whether ultralytics brings one of this name could not be found out: {problem.text}"
        ) from problem
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if stem not in known:
        hint = did_you_mean([stem], known)
        raise UsageError(f"{text}, and ultralytics brings none of this name{hint}; give the path of a data file (YAML)")
    return Path(known[stem])

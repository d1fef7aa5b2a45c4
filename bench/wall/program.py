"""A program behind the wall that speaks no protocol: run to its end in a family's environment, on a guest's terms."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.environments.locked import Env
from bench.places import GUEST_TOOLS
from bench.reasons import CellProblem, Reason
from bench.wall.confinement import CONFINED
from bench.wall.worker import TEMPORARY_VARIABLES, own_folders, with_threads

LAUNCHER = GUEST_TOOLS / "launch.py"
_TAIL_LINES = 20


def run(
    env: Env,
    program: str,
    arguments: Sequence[str],
    *,
    variables: Mapping[str, str],
    threads: int,
    cpus: Sequence[int],
    timeout: float,
) -> str:
    """What a program wrote to standard output.

    `program` is a file of Python or the name of one that a package of the environment installs; `variables`, `threads`
    and `cpus` are as a `Worker` takes them, so that both run under the same conditions, and it reaches as little.  It
    works in an empty folder that is gone afterwards.
    Raises CellProblem: ENVIRONMENT_FAILED where it cannot be started, TIMED_OUT after `timeout` seconds, CRASHED for an
    exit code other than 0, with its last lines.
    """
    with tempfile.TemporaryDirectory(prefix="bench-program-") as folder:
        variables = with_threads(variables, threads) | dict.fromkeys(TEMPORARY_VARIABLES, folder)
        command = [str(env.python), "-s", "-P", str(LAUNCHER), "--cpus", ",".join(map(str, cpus))]
        command += [*CONFINED.arguments(own_folders(Path(folder), variables)), program, *arguments]
        try:
            done = subprocess.run(
                command,
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            text = f"{program} did not end within {timeout:g} s and was ended"
            raise CellProblem(Reason.TIMED_OUT, text) from error
        except OSError as error:
            raise CellProblem(Reason.ENVIRONMENT_FAILED, f"cannot start {env.python}: {error}") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-_TAIL_LINES:])
        raise CellProblem(Reason.CRASHED, f"{program} ended with {done.returncode}. Its last lines:\n{tail}")
    return done.stdout

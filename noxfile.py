"""What people and CI call: `nox -s bench`, `nox -s tests`, `nox -s lint` and the rest (`nox -l`)."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from bench.environments.installers import uv_variables  # noqa: E402 - needs the line above

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["bench"]


def _install(session: nox.Session, family: str, **variables: str) -> None:
    """Install a locked environment, with the package sources that the user's pip is set to."""
    session.install("-r", str(ROOT / "matrices" / "envs" / f"{family}.txt"), env=uv_variables() | variables)


# The checkout is found through the current folder, which a user's PYTHONSAFEPATH would take from Python's path.
HERE = {"PYTHONSAFEPATH": ""}


def _bench(session: nox.Session, command: str) -> None:
    """Run a command of the bench with the session's arguments, in the core's environment."""
    _install(session, "core")
    session.run("python", "-m", "bench", command, *session.posargs, env=HERE)


@nox.session
def bench(session: nox.Session) -> None:
    """Sweep, measure, store and report; options after `--`, see `nox -s bench -- --help`."""
    _bench(session, "run")


@nox.session
def calibrate(session: nox.Session) -> None:
    """Hold the guests against the vendors' own tools; `nox -s calibrate docs` writes the documents' table as well."""
    _bench(session, "calibrate")


@nox.session
def report(session: nox.Session) -> None:
    """Write the HTML report of a past run again: `nox -s report -- RUN`."""
    _bench(session, "report")


@nox.session
def site(session: nox.Session) -> None:
    """Write the guide's table with its verdicts as static pages: `nox -s site -- RUN... --out DIR`."""
    _bench(session, "site")


@nox.session
def history(session: nox.Session) -> None:
    """Merge runs into the history, or list them: `nox -s history -- add results/runs`."""
    _bench(session, "history")


@nox.session
def check(session: nox.Session) -> None:
    """Hold the present state against a baseline: `nox -s check -- --against main --minutes 15`."""
    _bench(session, "check")


@nox.session
def baseline(session: nox.Session) -> None:
    """Promote or list baselines: `nox -s baseline -- promote RUN --name main --why "..."`."""
    _bench(session, "baseline")


@nox.session(name="self-check")
def self_check(session: nox.Session) -> None:
    """Try the regression gate on changes that are known: `nox -s self-check -- --minutes 45 --busy`."""
    _bench(session, "self-check")


@nox.session
def inspect(session: nox.Session) -> None:
    """Look at a model and its data before a run: `nox -s inspect -- --model best.pt --data data.yaml`."""
    _bench(session, "inspect")


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what this machine has and lacks."""
    _bench(session, "doctor")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the harness's own tests: `nox -s tests -- -k worker`, or `-- tests/test_worker.py`."""
    # One worker per CPU, of which four are enough for the longest file; tests/conftest.py says what stays together.
    workers = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    _test(session, "not options", "-W", "error", *workers)


@nox.session(name="tests-options")
def tests_options(session: nox.Session) -> None:
    """Export and run every option in its own environment: a quarter of an hour and some gigabytes the first time."""
    _test(session, "options")


def _test(session: nox.Session, marks: str, *arguments: str) -> None:
    """Run pytest over the tests with these marks; paths among the session's arguments replace the folder `tests`."""
    # Byte code at once: the tests start many interpreters, and none may write it where the user forbids that.
    _install(session, "dev", UV_COMPILE_BYTECODE="1")
    command = ["python", "-m", "pytest", "-ra", "--benchmark-disable", "-m", marks, *arguments]
    session.run(*command, *session.posargs, env=HERE)  # without a path pytest takes `testpaths` of pyproject.toml


@nox.session
def faults(session: nox.Session) -> None:
    """Inject faults and try inputs: `nox -s faults -- --faults 1000 --inputs 10000 --minutes 45`; docs/faults.md."""
    _install(session, "dev", UV_COMPILE_BYTECODE="1")
    session.run("python", "-m", "faults", *session.posargs, env=HERE | {"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Benchmark the harness's own hot paths with pytest-benchmark."""
    _install(session, "dev")
    session.run("python", "-m", "pytest", "tests/benchmarks", "--benchmark-only", *session.posargs, env=HERE)


@nox.session(name="coco-tables")
def coco_tables(session: nox.Session) -> None:
    """Write and read predictions of COCO's size: seconds and memory by the number of cells, `-- 10 25 50`."""
    _install(session, "core")
    session.run("python", "tests/benchmarks/coco_tables.py", *session.posargs, env=HERE)


@nox.session(name="history-size")
def history_size(session: nox.Session) -> None:
    """Merge synthetic runs and write the site with their history: seconds and memory by number, `-- 200 2000`."""
    _install(session, "core")
    session.run("python", "tests/benchmarks/history_size.py", *session.posargs, env=HERE)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, the wall between core and guests, and the workflows."""
    _install(session, "dev")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("mypy", "tests/conftest.py")  # by itself: the checkout's conftest.py is a module of the same name
    session.run("lint-imports")
    session.run("zizmor", "--offline", "--no-progress", "--persona", "auditor", ".github")


@nox.session
def docs(session: nox.Session) -> None:
    """Write what of the documents comes from the code: the picture of the imports, the results format."""
    _install(session, "dev")
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Remake the locks in matrices/envs: `nox -s lock -- onnx openvino`, or all of them."""
    _bench(session, "lock")


@nox.session(name="train-demo")
def train_demo(session: nox.Session) -> None:
    """Train the embedded demo model again: `nox -s train-demo -- --device 0`."""
    _bench(session, "train-demo")

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


@nox.session
def bench(session: nox.Session) -> None:
    """Sweep, measure, store and report; options after `--`, see `nox -s bench -- --help`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "run", *session.posargs)


@nox.session
def calibrate(session: nox.Session) -> None:
    """Hold the guests against the vendors' own tools; `nox -s calibrate docs` writes the documents' table as well."""
    _install(session, "core")
    session.run("python", "-m", "bench", "calibrate", *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """Write the HTML report of a past run again: `nox -s report -- RUN`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "report", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Write the guide's table with its verdicts as static pages: `nox -s site -- RUN... --out DIR`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "site", *session.posargs)


@nox.session
def check(session: nox.Session) -> None:
    """Hold the present state against a baseline: `nox -s check -- --against main --minutes 15`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "check", *session.posargs)


@nox.session
def baseline(session: nox.Session) -> None:
    """Promote or list baselines: `nox -s baseline -- promote RUN --name main --why "..."`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "baseline", *session.posargs)


@nox.session(name="self-check")
def self_check(session: nox.Session) -> None:
    """Try the regression gate on changes that are known: `nox -s self-check -- --minutes 45 --busy`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "self-check", *session.posargs)


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what this machine has and lacks."""
    _install(session, "core")
    session.run("python", "-m", "bench", "doctor", *session.posargs)


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
    session.run(*command, *session.posargs)  # without a path pytest takes `testpaths` of pyproject.toml


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Benchmark the harness's own hot paths with pytest-benchmark."""
    _install(session, "dev")
    session.run("python", "-m", "pytest", "tests/benchmarks", "--benchmark-only", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, the wall between core and guests, and the workflows."""
    _install(session, "dev")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("mypy", "tests/conftest.py")  # by itself: the checkout's conftest.py is a module of the same name
    session.run("lint-imports")
    session.run("zizmor", "--offline", "--no-progress", ".github")


@nox.session
def docs(session: nox.Session) -> None:
    """Write what of the documents comes from the code: the picture of the imports, the results format."""
    _install(session, "dev")
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Remake the locks in matrices/envs: `nox -s lock -- onnx openvino`, or all of them."""
    _install(session, "core")
    session.run("python", "-m", "bench", "lock", *session.posargs)


@nox.session(name="train-demo")
def train_demo(session: nox.Session) -> None:
    """Train the embedded demo model again: `nox -s train-demo -- --device 0`."""
    _install(session, "core")
    session.run("python", "-m", "bench", "train-demo", *session.posargs)

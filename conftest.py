"""pytest as the engine: command-line options, one test per cell and stage, and the run's beginning and end.

`pytest bench --sweep smoke -k "onnx and int8"` measures a part of the grid; `--collect-only` shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import launch, store
from bench.matrix import ROOT
from bench.reasons import CellProblem, Status, UsageError
from bench.session import Session
from bench.stages import Stage

REQUEST = pytest.StashKey[launch.Request]()
GRID = pytest.StashKey[launch.Grid]()
SESSION = pytest.StashKey[Session]()
SUITES = ROOT / "bench" / "suites"
USAGE = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options of bench/launch.py."""
    group = parser.getgroup("bench", "YOLO11 deployment bench")
    for name, option in launch.OPTIONS.items():
        group.addoption(f"--{name}", dest=f"bench_{name.replace('-', '_')}", metavar=option.metavar, help=option.help)
    text = "the guide whose statements the claims quote; tests that need it are skipped without it"
    group.addoption("--document", dest="bench_document", metavar="PATH", help=text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the suites' tests with the cells of the sweep."""
    if metafunc.definition.path.parent != SUITES:
        return
    config = metafunc.config
    if GRID not in config.stash:
        values = {name: getattr(config.option, f"bench_{name.replace('-', '_')}") for name in launch.OPTIONS}
        try:
            config.stash[REQUEST] = launch.Request(values)
            config.stash[GRID] = launch.grid(config.stash[REQUEST])
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    cells = config.stash[GRID].cells
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells], scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cell by cell, its stages in order; latency last, since it times all cells together."""

    def key(item: pytest.Item) -> tuple[bool, str, int]:
        stage = _stage(item)
        if stage is None:
            return False, "", 0
        cell = item.callspec.params["cell"]  # type: ignore[attr-defined]  # set by parametrize
        position = f"{item.config.stash[GRID].cells.index(cell):06}"
        return stage is Stage.LATENCY, position, list(Stage).index(stage)

    items.sort(key=key)


@pytest.fixture(scope="session")
def bench_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The run: prepared when the first cell is reached, finished (also after Ctrl-C) with whatever was measured."""
    config = request.config
    progress = launch.reporter()
    with progress:
        try:
            session = launch.prepare(config.stash[REQUEST], config.stash[GRID], progress)
        except (UsageError, CellProblem, store.StoreError) as error:
            pytest.exit(f"bench: {error}", returncode=USAGE)
        config.stash[SESSION] = session
        for item in request.session.items:
            stage = _stage(item)
            if stage is not None:
                session.want(item.callspec.params["cell"], stage)  # type: ignore[attr-defined]  # as above
        progress.expect(sum(len(stages) for stages in session.wanted.values()))
        try:
            yield session
        finally:
            try:
                launch.finish(session)
            except (UsageError, store.StoreError) as error:
                pytest.exit(f"bench: {error}", returncode=USAGE)


@pytest.fixture
def measured(bench_session: Session, request: pytest.FixtureRequest) -> None:
    """Measure the test's stage of its cell: passed when measured, skipped or failed with the reason otherwise."""
    stage = _stage(request.node)
    assert stage is not None, "only tests in bench/suites may use this fixture"
    try:
        bench_session.outcome(request.getfixturevalue("cell"), stage)
    except CellProblem as problem:
        if problem.status in (Status.SKIPPED, Status.EXPORTED):
            pytest.skip(str(problem))
        pytest.fail(str(problem), pytrace=False)
    except store.StoreError as error:
        pytest.exit(f"bench: {error}; what was written before is complete", returncode=USAGE)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the results are."""
    session = config.stash.get(SESSION, None)
    if session is not None and not launch.progress_wanted():
        terminalreporter.write_line(f"bench: results in {_relative(session.directory)}")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _stage(item: pytest.Item) -> Stage | None:
    """The stage a test measures, from its name (`test_latency[...]`), or None for tests of the harness itself."""
    if item.path.parent != SUITES:
        return None
    return Stage(item.originalname.removeprefix("test_"))  # type: ignore[attr-defined]  # a Function has it

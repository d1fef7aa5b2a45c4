"""pytest as the engine: options of a run, one test per cell and instrument, and the run's beginning and end.

In a checkout `pytest bench --sweep smoke -k "onnx and int8"` measures a part of the grid, and `--collect-only` shows
it.  Where the project is installed the suites are named as a package, from any folder:

    pytest --pyargs bench.suites --sweep smoke -k "onnx and int8"

pytest finds this plugin by its entry point; in a checkout the root conftest.py names it.  It does nothing for other
projects' tests in the same environment: its options, whose names others may want for theirs, are registered where the
suites are named or pytest is started in the checkout, and nothing heavy is imported before a cell is collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.grid.request import OPTIONS, Grid, Request, expand, parameter
from bench.places import IN_CHECKOUT, PACKAGE, ROOT, SUITES
from bench.reasons import CellProblem, Status, StoreError, UsageError

if TYPE_CHECKING:
    from bench.measure.elsewhere import Elsewhere
    from bench.measure.session import Session
    from bench.progress import Reporter
    from bench.words.locale import Language

REQUEST = pytest.StashKey[Request]()
GRID = pytest.StashKey[Grid]()
WRONG = pytest.StashKey[UsageError]()
"""Why the grid could not be expanded: told when collection is over, since pytest prints a traceback within it."""
SESSION = pytest.StashKey["Session"]()
STOPPED = pytest.StashKey[bool]()
"""Set where results cannot be written, which ends the run."""
LANGUAGE = pytest.StashKey["Language | None"]()
"""Of the report, where whoever started pytest says it; else it is that of the user's locale."""
REPORTER = pytest.StashKey["Reporter"]()
"""Progress on the terminal, where whoever started pytest has turned its own lines off (`bench/engine.py`)."""
USAGE = 2


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the options of a run, where one is asked for."""
    config = pluginmanager.get_plugin("pytestconfig")
    if config is None or not _ours(config):
        return
    group = parser.getgroup("bench", "YOLO11 deployment bench")
    for name, option in OPTIONS.items():
        group.addoption(f"--{name}", dest=_dest(name), metavar=option.metavar, help=option.help)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse pytest-xdist: several processes would measure the same cells at once, each in a run of its own.

    Raises pytest.UsageError.
    """
    config = session.config
    if getattr(config.option, "dist", "no") != "no" and not config.option.collectonly and _collects_suites(config):
        raise pytest.UsageError("cells are measured one after another, in one process: leave -n and --dist out")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the suites' tests with the cells of the sweep."""
    if metafunc.definition.path.parent != SUITES:
        return
    config = metafunc.config
    if GRID not in config.stash and WRONG not in config.stash:
        try:
            config.stash[REQUEST] = Request({name: getattr(config.option, _dest(name), None) for name in OPTIONS})
            config.stash[GRID] = expand(config.stash[REQUEST])
        except UsageError as error:
            config.stash[WRONG] = error
    cells = config.stash[GRID].cells if GRID in config.stash else []
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells], scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Cell by cell, by its instruments in order; those that measure all cells together come last.

    Raises pytest.UsageError where what was asked for cannot be meant.
    """
    if WRONG in config.stash:
        raise pytest.UsageError(str(config.stash[WRONG]))
    if not any(_instrument(item) for item in items):
        return
    from bench.measure.instruments.registry import INSTRUMENTS, of_runs

    order = list(INSTRUMENTS)
    together = {one.name for one in of_runs()}

    def key(item: pytest.Item) -> tuple[bool, int, int]:
        name = _instrument(item)
        if not name:
            return False, -1, 0
        cell = item.callspec.params["cell"]  # type: ignore[attr-defined]  # set by parametrize
        return name in together, item.config.stash[GRID].cells.index(cell), order.index(name)

    items.sort(key=key)


@pytest.fixture(scope="session")
def bench_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The run: prepared when the first cell is reached, finished (also after Ctrl-C) with whatever was measured."""
    from bench.measure.prepare import prepare

    config = request.config
    progress = config.stash.get(REPORTER, None) or _silent()
    with progress, ThreadPoolExecutor(1) as aside, ExitStack() as stack:
        try:
            elsewhere = stack.enter_context(_cluster(config.stash[REQUEST], progress))
            grid = config.stash[GRID]
            session = stack.enter_context(prepare(config.stash[REQUEST], grid, progress, elsewhere))
        except (UsageError, CellProblem, StoreError) as error:
            pytest.exit(f"bench: {error}", returncode=USAGE)
        config.stash[SESSION] = session
        # What closes a run is read before anything is measured, while exporters work, and where no Ctrl-C comes:
        # modules that it left half read cannot be read again.
        session.aside = aside.submit(import_module, "bench.report").result
        for item in request.session.items:
            if name := _instrument(item):
                session.want(item.callspec.params["cell"], name)  # type: ignore[attr-defined]  # as above
        progress.expect(sum(len(names) for names in session.wanted.values()))
        try:
            yield session
        finally:
            try:
                _finish(session, config.stash.get(LANGUAGE, None))
            except (UsageError, StoreError) as error:
                if STOPPED not in config.stash:  # else the first such error is on its way to the user, with the cause
                    pytest.exit(f"bench: {error}", returncode=USAGE)


@pytest.fixture
def measured(bench_session: Session, request: pytest.FixtureRequest) -> None:
    """Measure the test's cell by its instrument: passed when measured, else skipped or failed with the reason.

    Skipped is also what this instrument alone has no result of, though the cell is measured.
    """
    try:
        bench_session.outcome(request.getfixturevalue("cell"), _instrument(request.node))
    except CellProblem as problem:
        if problem.status in (Status.SKIPPED, Status.EXPORTED, Status.MEASURED):
            pytest.skip(str(problem))
        pytest.fail(str(problem), pytrace=False)
    except (StoreError, UsageError) as error:
        request.config.stash[STOPPED] = True
        pytest.exit(f"bench: {error}; what was written before is complete", returncode=USAGE)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the results are."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        directory = session.workshop.store.directory
        shown = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
        terminalreporter.write_line(f"bench: results in {shown}")


def _cluster(request: Request, progress: Reporter) -> AbstractContextManager[Elsewhere | None]:
    """The cluster that a request names; nobody where it names none, and then nothing of Dask is imported."""
    if request.text("cluster") is None:
        if request.text("time-on") is not None:
            raise UsageError("--time-on chooses among the workers of a cluster; give --cluster as well")
        return nullcontext()
    from bench.fleet.cluster import opened

    return opened(request, progress)


def _finish(session: Session, language: Language | None) -> None:
    """Close a run: last rows, the pytest-benchmark file and the report.

    Raises StoreError, or UsageError where the report's place cannot be written.
    """
    from bench import report
    from bench.store import benchmark_json
    from bench.words.locale import preferred

    session.finish()
    workshop = session.workshop
    directory = workshop.store.directory
    benchmark_json.write(directory)
    with workshop.progress.timed("", "report"):
        image = workshop.dataset.busiest_image()
        report.build(directory, directory / "report.html", image=image, language=language or preferred())


def _silent() -> Reporter:
    from rich.console import Console

    from bench.progress import Reporter

    return Reporter(Console(), enabled=False)


def _ours(config: pytest.Config) -> bool:
    """Whether pytest was started in the project's checkout, or for its suites."""
    here, known = config.invocation_params.dir, getattr(config, "known_args_namespace", None)
    # As typed, and with what settings add.  Values of other options stand there too; none of them looks like ours.
    words = [*map(str, config.invocation_params.args), *(known.file_or_dir if known else ())]
    pyargs = "--pyargs" in words or (known is not None and known.pyargs)
    if pyargs and any(word.partition(".")[0] == PACKAGE.name for word in words):
        return True
    place = ROOT if IN_CHECKOUT else PACKAGE
    return any((here / word.partition("::")[0]).resolve().is_relative_to(place) for word in ["", *words])


def _collects_suites(config: pytest.Config) -> bool:
    """Whether what pytest was asked for holds our suites; without a path it is `testpaths`, which do not."""
    here = config.invocation_params.dir
    if config.option.pyargs and any(word.partition(".")[0] == PACKAGE.name for word in config.args):
        return True
    places = [(here / word.partition("::")[0]).resolve() for word in config.args]
    return any(place.is_relative_to(SUITES) or SUITES.is_relative_to(place) for place in places)


def _dest(name: str) -> str:
    return f"bench_{parameter(name)}"


def _instrument(item: pytest.Item) -> str:
    """The instrument a test measures by, from its name (`test_latency[...]`); empty for tests of other folders."""
    if item.path.parent != SUITES:
        return ""
    return str(item.originalname.removeprefix("test_"))  # type: ignore[attr-defined]  # a Function has it

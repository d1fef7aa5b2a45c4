"""A sweep from Python: pytest over the suites, in this process, apart from the user's own pytest settings."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import plugin
from bench.grid.request import Request, expand
from bench.places import ROOT, SUITES
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.words.locale import Language

# So begins what users set for a pytest of their own (PYTEST_ADDOPTS, PYTEST_PLUGINS, PYTEST_DEBUG, what their plugins
# read), and what a pytest that this one is started in keeps there.
_FOREIGN = "PYTEST_"


class BenchDefect(UsageError):
    """The bench itself failed, not a cell; `trace` is where, and is shown under the error where nobody catches it."""

    def __init__(self, trace: str) -> None:
        """Keep the traceback beside the message."""
        super().__init__("this is a defect of the bench; please report it with its traceback")
        self.trace = trace
        self.add_note(trace)


@dataclass(frozen=True)
class Swept:
    """What became of a sweep: its folder, whether a cell failed or is invalid, and whether the user stopped it."""

    directory: Path
    failed: bool
    interrupted: bool


def sweep(request: Request, reporter: Reporter, keyword: str | None = None, language: Language | None = None) -> Swept:
    """Measure what `request` asks for; `keyword` is pytest's -k over the tests' names, `language` the report's.

    Whatever was measured is stored, also when this raises: UsageError for wrong usage, an environment that cannot
    measure, or a selection without cells; BenchDefect for a fault of the bench.
    """
    expand(request)  # a wrong name is told before pytest starts
    values = dict(request.given()) | {"run-id": request.run_id}
    arguments = [str(SUITES), f"--rootdir={ROOT}", f"--config-file={SUITES / 'pytest.ini'}"]
    arguments += ["--disable-plugin-autoload", "-p", plugin.__name__]
    # The progress bar has the terminal; what pytest would print there, the table at the end says better.
    arguments += ["-p", "no:cacheprovider", "-p", "no:terminal", "--capture=no"]
    # Whoever called this goes on in this process: neither sys.path nor the import of their modules is touched.
    arguments += ["--import-mode=importlib", "--assert=plain"]
    arguments += [f"--{name}={value}" for name, value in values.items()]
    if keyword is not None:
        arguments += ["-k", keyword]
    seen = _Watcher(reporter, language)
    with _without(_FOREIGN):
        code = pytest.main(arguments, plugins=[seen])
    directory = request.results / request.run_id
    if seen.defect:
        raise BenchDefect(seen.defect)
    if seen.message:
        raise UsageError(seen.message)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(f"-k {keyword}: no cell matches; `yolo11-bench list` shows their ids")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not seen.interrupted:
        raise UsageError(f"pytest ended with {pytest.ExitCode(code).name} before anything was measured")
    return Swept(directory, code == pytest.ExitCode.TESTS_FAILED, seen.interrupted)


class _Watcher:
    """Gives the run its progress bar, and remembers what pytest would have printed."""

    def __init__(self, reporter: Reporter, language: Language | None) -> None:
        """Nothing seen yet."""
        self.interrupted = False
        self.message = ""
        self.defect = ""
        self._reporter = reporter
        self._language = language

    def pytest_configure(self, config: pytest.Config) -> None:
        """Hand progress bar and language to the plugin."""
        config.stash[plugin.REPORTER] = self._reporter
        if self._language is not None:
            config.stash[plugin.LANGUAGE] = self._language

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self) -> Generator[None, None, None]:
        """Keep what is wrong with the expression of -k, which pytest would print by itself."""
        try:
            yield
        except pytest.UsageError as error:
            pytest.exit(str(error))

    def pytest_exception_interact(
        self, node: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport
    ) -> None:
        """Stop at what is no cell's failure but a defect of the bench itself, and keep it."""
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.fail.Exception):
            self.defect = report.longreprtext
            node.session.shouldstop = "a defect of the bench"

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep whether the user stopped the run, or a `pytest.exit` did, and why."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.message = excinfo.value.msg.removeprefix("bench: ")
        else:
            self.interrupted = True


@contextmanager
def _without(prefix: str) -> Iterator[None]:
    """The environment without the variables whose names begin so; they are back afterwards."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)

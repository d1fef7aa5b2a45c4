"""What the tests that run real exporters and runtimes share: the user's environments, and a cache for their exports."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from installing import Venv, build
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from bench.environments.locked import Environments
from bench.grid.request import Request
from bench.places import MATRICES, ROOT
from bench.wall.artifacts import Artifacts

LONGEST_FIRST = ("test_sweep", "test_check", "test_collapse", "test_instruments", "test_formats", "test_install",
                 "test_runtimes", "test_api", "test_notebook", "test_comparison", "test_envs",
                 "test_report")  # fmt: skip
"""Files with real runs, installations and exports, so that no worker of pytest-xdist is left with one at the end."""

# Guests of two runs at once would be pinned to the same CPU; the last two share a wheel and an environment as well.
TOGETHER = dict.fromkeys(("test_collapse", "test_instruments", "test_formats", "test_install"), "test_sweep")
"""Files that stay on the worker of another one; every file's own tests stay together, for the fixtures they share."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # without types, so of the class Any
    """pytest-xdist's distribution by file, with the files of `TOGETHER` as one; its marks are of no effect here."""

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        return TOGETHER.get(name, name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Whatever `--dist` says."""
    return ByFile(config, log)


@pytest.fixture(scope="module")
def cache() -> Path:
    """The cache folder of a run without options, so that environments are built once and not per test."""
    return Request({}).cache


@pytest.fixture(scope="module")
def environments(cache: Path) -> Environments:
    """The locked environments in that cache."""
    return Environments(MATRICES, cache)


@pytest.fixture(scope="module")
def artifacts(environments: Environments, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """A cache of its own: each run of the tests really exports."""
    return Artifacts(tmp_path_factory.mktemp("cache"), environments)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own: in the system's, other tests have guests meanwhile."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from its sdist."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """An environment with the wheel installed.  A test that changes it changes it back."""
    return Venv.make(tmp_path_factory.mktemp("installed") / "venv", wheel)

"""An interpreter of the user's in place of a locked environment: used as it is, recorded, never claimed as the lock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.environments import brought
from bench.environments.locked import Environments
from bench.places import MATRICES
from bench.reasons import CellProblem, Reason
from bench.wall.worker import Worker


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    folder = tmp_path / "matrices" / "envs"
    folder.mkdir(parents=True)
    (folder / "small-cuda.txt").write_text("probe==1.0\n", encoding="utf-8")
    return Environments(tmp_path / "matrices", tmp_path / "cache")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_users_interpreter_takes_the_place_of_the_lock(
    environments: Environments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = environments.identity("small-cuda")
    monkeypatch.setenv("BENCH_ENV_SMALL_CUDA", sys.executable)
    environments = Environments(tmp_path / "matrices", tmp_path / "cache")
    env = environments.ensure("small-cuda")
    assert env.python == Path(sys.executable)
    assert env.bytes is None
    assert env.lock_sha256 == ""
    assert any(package.startswith("numpy==") for package in env.packages())
    assert env.freeze() == environments.ensure("small-cuda").freeze()
    facts = env.facts()
    assert facts["external"] is True
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "lock_sha256" not in facts
    assert str(tmp_path) not in str(facts)
    assert environments.identity("small-cuda") != locked
    assert environments.existing("small-cuda") == env
    # Nothing was built, and a guest really runs in it.
    assert not list((tmp_path / "cache" / "envs").glob("small-cuda*"))
    adapter = tmp_path / "adapter.py"
    adapter.write_text("import sys\ndef where(request):\n    return {'python': sys.executable}\n", encoding="utf-8")
    with Worker(env.python, adapter, variables=environments.variables()) as worker:
        assert worker.call("where", {}, 30) == {"python": sys.executable}


def test_other_families_keep_their_locks(environments: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_ENV_SMALL", sys.executable)
    assert environments.existing("small-cuda") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "ended with 3"),
        ("echo 'no such library' >&2; exit 1", "no such library"),
        ("""echo '{"version": [3, 8, 1], "folders": ["/x/site-packages"], "numpy": true}'""", "Python 3.8.1"),
        ("""echo '{"version": [3, 12, 1], "folders": ["/x/site-packages"], "numpy": false}'""", "no numpy"),
        ("echo hello", "no Python"),
    ],
)
def test_what_cannot_run_a_guest_costs_the_cell_and_says_why(
    text: str, said: str, environments: Environments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BENCH_ENV_SMALL_CUDA", str(script(tmp_path / "python", text)))
    with pytest.raises(CellProblem, match=said) as problem:
        environments.ensure("small-cuda")
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED
    assert "BENCH_ENV_SMALL_CUDA" in problem.value.text


def test_a_path_that_is_not_there_is_named(environments: Environments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_ENV_SMALL_CUDA", "/no/such/python")
    with pytest.raises(CellProblem, match="/no/such/python"):
        environments.ensure("small-cuda")


def test_every_family_of_the_matrix_has_a_variable_of_its_own() -> None:
    families = [path.stem for path in (MATRICES / "envs").glob("*.txt")]
    names = [brought.variable(family) for family in families]
    assert len(set(names)) == len(families)
    assert brought.variable("pytorch-cuda") == "BENCH_ENV_PYTORCH_CUDA"
    assert all(name.isidentifier() for name in names)

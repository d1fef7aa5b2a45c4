"""JavaScript packages are locked, installed once, whole, and without their install scripts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.environments.javascript import JsEnvironments
from bench.places import MATRICES
from bench.reasons import CellProblem, Reason, Status, UsageError

FAMILY = "browser-js"
# Stands in for npm: notes how it was called and installs one package.
NPM = """#!/bin/sh
echo "$@" >> "{log}"
{before}
mkdir -p node_modules/thing
echo "content" > node_modules/thing/index.js
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def use_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path, before: str = "") -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(NPM.format(log=log, before=before), encoding="utf-8")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def calls(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


def test_the_lock_pins_content_and_names_no_host() -> None:
    text = (MATRICES / "envs" / FAMILY / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert "node_modules/@tensorflow/tfjs-core" in packages
    assert all(re.fullmatch(r"sha512-[\w+/=]+", entry["integrity"]) for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())
    assert "://" not in text
    wanted = json.loads((MATRICES / "envs" / FAMILY / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def test_packages_are_installed_once_and_without_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    use_npm(tmp_path, monkeypatch, log)
    first = JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    again = JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    assert first == again
    assert (first.directory / "thing" / "index.js").read_text(encoding="utf-8") == "content\n"
    assert first.bytes == len("content\n")
    assert "@tensorflow/tfjs-core@4.22.0" in first.packages()
    assert len(calls(log)) == 1
    assert calls(log)[0].startswith("ci ")
    assert "--ignore-scripts" in calls(log)[0]


def test_a_changed_or_half_installed_folder_is_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    use_npm(tmp_path, monkeypatch, log)
    folder = JsEnvironments(MATRICES, tmp_path).ensure(FAMILY).directory
    (folder / "thing" / "index.js").write_text("other\n", encoding="utf-8")
    (folder / "thing" / "extra.js").write_text("", encoding="utf-8")
    JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    assert (folder / "thing" / "index.js").read_text(encoding="utf-8") == "content\n"
    assert not (folder / "thing" / "extra.js").exists()
    (folder.parent / "complete.json").unlink()
    JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    assert len(calls(log)) == 3


def test_without_npm_the_cell_is_skipped_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CellProblem, match="Install it") as problem:
        JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    assert problem.value.status is Status.SKIPPED


def test_an_installation_that_fails_is_told_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    use_npm(tmp_path, monkeypatch, log, before="echo 'no such host' >&2; exit 1")
    with pytest.raises(CellProblem, match="no such host") as problem:
        JsEnvironments(MATRICES, tmp_path).ensure(FAMILY)
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED
    assert problem.value.status is Status.FAILED
    use_npm(tmp_path, monkeypatch, log)
    assert JsEnvironments(MATRICES, tmp_path).ensure(FAMILY).bytes


def test_a_family_without_a_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bench lock nothing"):
        JsEnvironments(MATRICES, tmp_path).ensure("nothing")

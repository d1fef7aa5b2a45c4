"""Names that no disk takes: a name of 300 bytes is longer than any file system's longest, and each way in says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from bench.cli.app import app
from bench.files import exists, place
from bench.grid import matrix
from bench.places import MATRICES
from bench.reasons import UsageError

LONG = "x" * 300
FOLDERS = ("results", "cache", "matrices")


def commands(group: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a group by its words, those of the groups in it included."""
    for name, command in group.commands.items():
        words = (*before, name)
        if hasattr(command, "commands"):
            yield from commands(command, *words)
        else:
            yield words, command


def ways_in() -> Iterator[Any]:
    for words, command in commands(cast("Any", typer.main.get_command(app))):
        needed = [one for one in command.params if one.required]
        beside = [part for one in needed for part in ([one.opts[0], "x"] if one.opts[0].startswith("-") else ["x"])]
        for option in (one.opts[0] for one in command.params if one.opts[0].removeprefix("--") in FOLDERS):
            yield pytest.param([*words, *beside, option, LONG], id=f"{' '.join(words)} {option}")


@pytest.mark.parametrize("arguments", list(ways_in()))
def test_a_folder_with_a_name_too_long_is_refused_before_anything_else(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=LONG):
        cast("Any", app)(arguments, standalone_mode=False)
    assert not list(tmp_path.iterdir()), "nothing was made"


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", LONG],
        ["lock", LONG],
        ["history", "show", "--history", LONG],
        ["ab", "--options", "onnx", "--precisions", "fp32", "--base", LONG, "--candidate", "x"],
        ["plan", "--against", LONG],
        ["plan", "--against", f"git:{LONG}"],
        ["inspect", "--model", LONG],
        ["inspect", "--data", LONG],
        ["run", "--sweep", LONG],
        ["run", "--run-id", LONG],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_any_other_name_too_long_is_one_clear_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        raise_or_exit(cast("Any", app)(arguments, standalone_mode=False))


def raise_or_exit(code: object) -> None:
    """`inspect` tells its problems itself and ends with 2."""
    if code == 2:
        raise UsageError("told")


def test_a_module_with_a_name_too_long_is_an_error_of_the_matrix() -> None:
    option = matrix.load(MATRICES).options["onnx"]
    content = option.model_dump(exclude_defaults=True) | {"runtime": LONG}
    with pytest.raises(ValueError, match="at most 100 characters"):
        type(option).model_validate(content)


def test_what_cannot_be_looked_at_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert exists(tmp_path)
    assert not exists(tmp_path / "x")
    assert not exists(tmp_path / LONG)
    assert place("--cache", str(tmp_path / "x")) == tmp_path / "x"
    with pytest.raises(UsageError, match=r"--cache .*circle: .*correct the name"):
        place("--cache", str(tmp_path / "circle"))

"""The cache is cleaned of what no run has used for a while, and of nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import filelock
import pytest

from bench.cli.app import main
from bench.environments import unused
from bench.files import lock_of, locked

DAY = unused.SECONDS_PER_DAY


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with things last used 0, 10 and 100 days ago."""
    for name, days in (("envs/new-1", 0), ("envs/old-2", 100), ("artifacts/abc", 10), ("artifacts/def", 100)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 2_000_000)
        lock = lock_of(folder)
        lock.touch()
        os.utime(lock, (time.time() - days * DAY,) * 2)
    return tmp_path


def left(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.glob("*/*") if path.is_dir())


def test_what_was_not_used_for_long_goes_and_the_rest_stays(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["clean", "--cache", str(cache), "--dry-run"])
    assert ended.value.code == 0
    assert "4.0 MB would be freed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["clean", "--cache", str(cache), "--dry-run", "--lang", "zh"])
    told = capsys.readouterr().out
    assert "100 天" in told
    assert f"将在 {cache} 中释放 4.0 MB" in told
    assert len(left(cache)) == 4
    with pytest.raises(SystemExit):
        main(["clean", "--cache", str(cache), "--days", "50"])
    assert left(cache) == ["artifacts/abc", "envs/new-1"]
    with pytest.raises(SystemExit):
        main(["clean", "--cache", str(cache), "--days", "5"])
    assert left(cache) == ["envs/new-1"]


def test_a_use_makes_it_young_again(cache: Path) -> None:
    with locked(cache / "envs" / "old-2"):
        pass
    assert [entry.name for entry in unused.unused(cache, 50)] == ["artifacts/def"]


def test_what_is_in_use_stays(cache: Path) -> None:
    entry = next(entry for entry in unused.unused(cache, 50) if entry.name == "envs/old-2")
    with filelock.FileLock(lock_of(cache / "envs" / "old-2")):
        assert not unused.remove(entry)
    assert "envs/old-2" in left(cache)


def test_files_that_an_installer_shares_are_not_counted(cache: Path) -> None:
    os.link(cache / "envs" / "old-2" / "file", cache / "shared")
    sizes = {entry.name: entry.bytes for entry in unused.unused(cache, 50)}
    assert sizes == {"envs/old-2": 0, "artifacts/def": 2_000_000}

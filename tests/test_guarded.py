"""What guests are kept from: the network, and files that are not theirs; and what they are left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.environments.locked import Env
from bench.guest.seal import ISOLATED, NETWORK, WRITES
from bench.reasons import CellProblem
from bench.wall import confinement, program
from bench.wall.confinement import ALLOWED, SEAL, UNCONFINED, VARIABLE, Confinement, refusals
from bench.wall.worker import Worker

ADAPTER = Path(__file__).parent / "guests" / "reaching.py"
OUTSIDE = "203.0.113.7"  # an address kept for documentation (RFC 5737)

without_network = pytest.mark.skipif(NETWORK in refusals(), reason=refusals().get(NETWORK, ""))
own_files_alone = pytest.mark.skipif(WRITES in refusals(), reason=refusals().get(WRITES, ""))


def reaching(**keywords: Any) -> Worker:
    variables = {"PATH": os.environ["PATH"], **keywords.pop("variables", {})}
    return Worker(Path(sys.executable), ADAPTER, variables=variables, **keywords)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder that is not the guest's, with files in it."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in ("there", "kept"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.fixture
def afresh() -> Iterator[None]:
    """The system is tried again, before and after."""
    refusals.cache_clear()
    yield
    refusals.cache_clear()


@without_network
def test_a_guest_has_its_loopback_and_no_other_interface() -> None:
    with reaching() as guest:
        assert guest.confined[NETWORK] == ISOLATED
        found = guest.call("network", {"outside": OUTSIDE}, 30)
    assert found == {"interfaces": ["lo"], "outside": "OSError", "loopback": True}


@own_files_alone
def test_a_guest_changes_no_file_that_is_not_its_own_in_any_way(foreign: Path) -> None:
    with reaching() as guest:
        assert guest.confined[WRITES].startswith("own folders (Landlock ")
        found = guest.call("files", {"folder": str(foreign), "leave": []}, 30)
    assert found.pop("read") == "done"
    assert found.pop("by a child") == "CalledProcessError"
    # A folder that may not be left is told as one on another disk: the file could be copied, were it allowed.
    assert {found.pop(name) for name in ("move in", "move out")} <= {"PermissionError", "OSError"}
    assert set(found.values()) == {"PermissionError"}
    assert {path.name: path.read_text(encoding="utf-8") for path in foreign.iterdir()} == {
        "there": "there", "kept": "kept",
    }  # fmt: skip


@own_files_alone
def test_a_folder_that_is_given_may_be_written_to(foreign: Path) -> None:
    with reaching(confinement=Confinement(writable=(foreign,))) as guest:
        found = guest.call("files", {"folder": str(foreign), "leave": ["remove"]}, 30)
    assert set(found.values()) == {"done"}
    assert {path.name for path in foreign.iterdir()} == {"kept", "new", "moved", "link", "sub", "touched"}


def test_what_libraries_do_all_the_time_is_left_to_them(tmp_path: Path) -> None:
    with reaching(variables={"HOME": str(tmp_path)}) as guest:
        found = guest.call("usual", {}, 30)
    assert found == dict.fromkeys(("null", "temporary", "shared memory", "home"), "done")


def test_no_process_is_added_and_nobody_becomes_somebody_else() -> None:
    with reaching() as guest:
        found = guest.call("process", {}, 30)
        assert found["pid"] == guest.pid
        assert psutil.Process(guest.pid).children() == []
    assert found["ids"] == [os.geteuid(), os.getegid()]


def test_what_a_guest_may_reach_is_told_and_true(foreign: Path) -> None:
    with reaching(confinement=UNCONFINED) as guest:
        assert guest.confined == {NETWORK: ALLOWED, WRITES: ALLOWED}
        found = guest.call("files", {"folder": str(foreign), "leave": ["remove"]}, 30)
    assert set(found.values()) == {"done"}


def test_a_system_that_gives_nothing_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, afresh: None, foreign: Path
) -> None:
    del afresh
    monkeypatch.setenv(VARIABLE, "off")
    with reaching() as guest:
        assert guest.confined == dict.fromkeys((NETWORK, WRITES), "not isolated: BENCH_CONFINEMENT=off")
        assert guest.call("files", {"folder": str(foreign), "leave": ["remove"]}, 30)["make"] == "done"


@pytest.mark.parametrize(
    ("text", "why"),
    [("import os; os.kill(os.getpid(), 9)", "ended with -9"), ("raise OSError('no such call')", "no such call")],
)
def test_a_trial_that_fails_takes_nothing_from_guests(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch, afresh: None, tmp_path: Path
) -> None:
    """As where a filter of system calls ends whoever asks for a namespace."""
    del afresh
    (tmp_path / "seal.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(confinement, "SEAL", tmp_path / "seal.py")
    assert set(refusals()) == {NETWORK, WRITES}
    assert all(why in said for said in refusals().values())
    with reaching() as guest:
        assert why in guest.confined[NETWORK]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can become another user")
def test_it_takes_no_privilege() -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")  # one that everybody may start
    assert python is not None
    command = [python, "-I", "-S", "-c", SEAL.read_text(encoding="utf-8"), "--writable", "/tmp"]  # noqa: S108 - as it is
    done = subprocess.run(
        command, cwd="/", user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    expected = {NETWORK: ISOLATED, WRITES: "own folders (Landlock "}
    for what, said in report.items():
        assert said.startswith(refusals().get(what, expected[what]))


@own_files_alone
def test_a_program_behind_the_wall_is_kept_from_as_much(tmp_path: Path) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text(
        "import pathlib, sys, tempfile\n"
        "print(tempfile.mkdtemp(), sys.argv[1:], len(pathlib.Path('/proc/net/dev').read_text().splitlines()) - 2)\n"
        "pathlib.Path(sys.argv[1]).touch()\n",
        encoding="utf-8",
    )
    env = Env("own", Path(sys.executable), tmp_path, "", 0)

    def run(path: Path) -> str:
        return program.run(env, str(tool), [str(path), "--cpus"], variables={}, threads=1, cpus=(), timeout=30)

    with pytest.raises(CellProblem, match="Permission denied"):
        run(tmp_path / "touched")
    assert not (tmp_path / "touched").exists()
    said = run(Path("touched"))  # in the folder it works in
    assert "['touched', '--cpus']" in said
    if NETWORK not in refusals():
        assert said.split()[-1] == "1"

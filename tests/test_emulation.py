"""Emulated machines: asked for by name only, made without touching the system, results checked and nothing timed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import store
from bench.environments import emulator
from bench.environments.emulated import EmulatedEnvironments
from bench.grid import machine, matrix
from bench.grid.request import CACHE_VARIABLE, Request, expand
from bench.places import MATRICES, ROOT
from bench.reasons import CellProblem, Reason, Status, UsageError

EMULATED = "arm-cpu-emulated"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(MATRICES, tmp_path / "matrices")


@pytest.fixture
def system(tmp_path: Path) -> emulator.System:
    return emulator.System("arm64", emulator.load(MATRICES, "arm64"), tmp_path)


def grid_targets(**values: str) -> dict[str, set[str]]:
    """Options by target of the cells that a command line asks for."""
    found: dict[str, set[str]] = {}
    for cell in expand(Request({"sweep": "all", "options": "onnx", **values})).cells:
        found.setdefault(cell.target, set()).add(cell.option.id)
    return found


def test_it_is_measured_only_where_it_is_asked_for() -> None:
    assert EMULATED not in grid_targets()
    assert EMULATED not in grid_targets(targets="*")
    asked = grid_targets(emulate="arm64")
    assert asked == {EMULATED: {"onnx"}, "cpu": {"pytorch"}}  # PyTorch on this machine is the reference
    assert grid_targets(targets=EMULATED) == asked
    assert grid_targets(emulate="arm64", targets="cpu") == {EMULATED: {"onnx"}, "cpu": {"pytorch", "onnx"}}
    with pytest.raises(UsageError, match=r"--emulate: unknown riscv64; allowed: arm64"):
        grid_targets(emulate="riscv64")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("emulators.toml", 'glibc = "2.36"', "", ["emulators.toml", "arm64.glibc", "required"]),
        ("emulators.toml", "suites = ", "suits = ", ["emulators.toml", "arm64.suits", "suites"]),
        ("emulators.toml", "[arm64]", "[armhf]", ["emulators.toml", "no emulator 'arm64'", "armhf"]),
        (
            "targets.toml",
            'emulates = "arm-cpu"',
            'emulates = "arm"',
            ["targets.toml", f"{EMULATED}.emulates", "arm-cpu"],
        ),
        ("targets.toml", 'emulates = "arm-cpu"', "", ["targets.toml", EMULATED, "belong together"]),
    ],
)
def test_a_wrong_file_is_named(copied: Path, file: str, old: str, new: str, words: list[str]) -> None:
    text = (copied / file).read_text(encoding="utf-8")
    assert old in text
    (copied / file).write_text(text.replace(old, new), encoding="utf-8")
    read = matrix.load if file == "targets.toml" else lambda folder: emulator.load(folder, "arm64")
    with pytest.raises(UsageError) as error:
        read(copied)
    for word in words:
        assert word in str(error.value)


def test_what_is_missing_is_said_in_words_to_act_on(
    system: emulator.System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = matrix.load().targets[EMULATED]
    without_keys = target.detect.model_copy(update={"files": [str(tmp_path / "absent.gpg")]})
    presence = machine.detect(target.model_copy(update={"detect": without_keys}))
    assert not presence.found
    assert "absent.gpg" in presence.text
    assert "the package debian-archive-keyring" in presence.text
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "apt-get").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CellProblem, match=r"apt-config, dpkg-deb\. Install apt and dpkg") as problem:
        system.ensure(print)
    assert problem.value.status is Status.SKIPPED
    assert not system.directory.exists()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "https://a.example/debian-security/ bookworm-security Debian\nhttps://b.example/x/ trixie Debian\n",
            "b.example/x",
        ),
        ("https://c.example/ubuntu/ noble Ubuntu\nhttps://d.example/debian/ bookworm \n", "d.example/debian"),
    ],
)
def test_debian_comes_from_where_the_users_apt_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, expected: str
) -> None:
    stand_in = tmp_path / "apt-get"
    stand_in.write_text(f"#!/bin/sh\ncat <<'EOF'\n{lines}EOF\n", encoding="utf-8")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("BENCH_DEBIAN_MIRROR", raising=False)
    assert emulator.debian_mirror() == f"https://{expected}/"
    monkeypatch.setenv("BENCH_DEBIAN_MIRROR", "https://e.example/debian")
    assert emulator.debian_mirror() == "https://e.example/debian"


def test_without_an_address_of_debian_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho https://c.example/ubuntu/ noble Ubuntu\n", encoding="utf-8")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("BENCH_DEBIAN_MIRROR", raising=False)
    with pytest.raises(CellProblem, match="BENCH_DEBIAN_MIRROR") as problem:
        emulator.debian_mirror()
    assert problem.value.status is Status.SKIPPED


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="needs apt-config")
def test_apt_keeps_the_users_proxy_and_none_of_the_users_hooks(
    system: emulator.System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs.conf", tmp_path / "ours.conf"
    hook = "touch /nowhere"
    theirs.write_text(
        f'Acquire::http::Proxy "http://proxy.example:3128";\nAPT::Update::Post-Invoke {{ "{hook}"; }};\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(theirs))
    assert hook in subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    ours.write_text(system._configuration(tmp_path / "apt"), encoding="utf-8")
    monkeypatch.setenv("APT_CONFIG", str(ours))
    seen = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in seen
    assert f'Dir::State::status "{tmp_path}/apt/status";' in seen
    assert 'APT::Architectures:: "arm64";' in seen
    assert "Post-Invoke" not in seen


def test_a_system_that_is_not_what_it_should_be_is_not_used(system: emulator.System) -> None:
    system.directory.mkdir(parents=True)
    system.program.write_text("#!/bin/sh\necho x86_64 2.36 3.11.2\n", encoding="utf-8")
    system.program.chmod(0o755)
    with pytest.raises(CellProblem, match=r"x86_64 2\.36; emulators\.toml says aarch64 2\.36") as problem:
        system._try()
    assert problem.value.reason is Reason.ENVIRONMENT_FAILED


def test_the_interpreter_of_an_environment_starts_the_emulator(
    tmp_path: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for QEMU that says how it was called; the folder's name needs quoting."""
    monkeypatch.setenv("UV_NO_INDEX", "1")
    (copied / "envs" / "empty.txt").write_text("", encoding="utf-8")
    environments = EmulatedEnvironments(copied, tmp_path / "a cache", "arm64")
    system = environments.system
    system.python.parent.mkdir(parents=True)
    system.python.touch()
    system.program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n', encoding="utf-8")
    system.program.chmod(0o755)
    (system.directory / "complete.json").write_text(json.dumps({"python": "3.11.2"}), encoding="utf-8")
    env = environments.ensure("empty")
    assert env.python.parents[1].parent == tmp_path / "a cache" / "envs"
    done = subprocess.run([env.python, "-c", "two words"], capture_output=True, text=True, check=True)
    python = str(env.python.with_name("python3.11"))
    assert done.stdout.splitlines() == ["-cpu", "cortex-a76", "-L", str(system.root), python, "-c", "two words"]
    assert env.python.with_name("python3.11").resolve() == system.python.resolve()


@pytest.mark.options
@pytest.mark.skipif(
    not machine.detect(matrix.load().targets[EMULATED]).found, reason="needs what the target arm-cpu-emulated needs"
)
def test_results_are_checked_under_the_emulator_and_nothing_is_timed(tmp_path: Path, cache: Path) -> None:
    states = [Path("/var/lib/dpkg"), Path("/var/lib/apt/lists"), Path("/var/cache/apt/archives")]
    before = {path: path.stat().st_mtime_ns for path in states if path.exists()}
    command = [sys.executable, "-m", "bench", "run", "--sweep", "all", "--emulate", "arm64", "--options", "onnx,ncnn"]
    command += ["--precisions", "fp32,fp16", "--imgsz", "128", "--images", "2", "--results", str(tmp_path)]
    environment = os.environ | {CACHE_VARIABLE: str(cache)}
    command += ["--run-id", "r"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    cells = store.read_table(tmp_path / "r", "cells")
    emulated = cells[cells.target == EMULATED].set_index(["option", "precision"])
    assert sorted(emulated.index) == [("ncnn", "fp16"), ("ncnn", "fp32"), ("onnx", "fp16"), ("onnx", "fp32")]
    assert set(emulated.status) == {Status.MEASURED}
    times = ["latency_p50_ms", "latency_ratio", "import_ms", "load_ms", "first_inference_ms", "peak_rss_bytes"]
    assert emulated[times].isna().all(axis=None)
    assert emulated.latency_stop.str.contains("emulated").all()
    assert (emulated.images == 2).all()
    # Wheels for Arm do other arithmetic, so their outputs are near PyTorch's and not equal to it.
    assert emulated.parity_score_max.between(0, 0.05, inclusive="right").all()
    assert emulated.map_delta.abs().max() < 0.05
    # Only a processor with half-precision arithmetic runs these kernels; on x86 the same artifact computes in float32.
    assert emulated.compute.to_dict() == {
        ("onnx", "fp32"): "f32",
        ("onnx", "fp16"): "f16",
        ("ncnn", "fp32"): "f32",
        ("ncnn", "fp16"): "f16",
    }
    facts = store.read_table(tmp_path / "r", "environment").set_index(["scope", "key"]).value
    assert "qemu-aarch64" in facts["emulator:arm64", "emulator"]
    assert any(package.startswith("onnxruntime==") for package in json.loads(facts["env:onnx-arm64", "packages"]))

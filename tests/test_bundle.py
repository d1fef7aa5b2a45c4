"""A run packed and run elsewhere: by another interpreter, with an empty cache and without a network."""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from running import USERS_CACHE, bench

from bench import demo, store
from bench.environments.brought import variable
from bench.environments.foreign import Elsewhere, divided
from bench.environments.installers import PYTHON_VERSION, find_uv
from bench.environments.locked import Environments
from bench.guest import offline
from bench.guest.offline import MANIFEST, PROGRAM, Joined, Machine, Unusable, manifest_in, require_whole, unpack
from bench.guest.seal import NETWORK
from bench.measure.bundle import Parts
from bench.places import DEMO_CHECKPOINT, GUEST, MATRICES
from bench.reasons import UsageError
from bench.wall import checkpoint
from bench.wall.confinement import refusals

LOCK = """# bench: no-deps
numpy==2.4.6
nvidia-cublas==13.1 ; sys_platform == 'linux'
tensorflow-cpu==2.21.0 ; platform_machine == "x86_64"
tensorflow==2.21.0 ; platform_machine != "x86_64"
torch==2.13.0
torchvision==0.28.0
"""
LINUX = Elsewhere("3.12", "manylinux_2_28_x86_64")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
SECOND = Path("/usr/bin/python3.11")
"""An interpreter of the system's, which is none of those that the tests run with."""


# -- packages for another machine --------------------------------------------------------------------------------------


def test_a_lock_is_divided_by_patterns_of_names() -> None:
    found = divided(LOCK, LINUX, ["torch", "NVIDIA-*"])
    assert found.carry == ("numpy==2.4.6", "tensorflow-cpu==2.21.0", "torchvision==0.28.0")
    assert found.left == ("nvidia-cublas", "torch")
    assert divided(LOCK, LINUX).left == ()


def test_what_a_lock_says_of_platforms_is_judged_for_the_other_machine() -> None:
    arm = divided(LOCK, Elsewhere("3.11", "manylinux_2_28_aarch64")).carry
    assert "tensorflow==2.21.0" in arm
    assert "tensorflow-cpu==2.21.0" not in arm
    mac = divided(LOCK, Elsewhere("3.11", "macosx_14_0_arm64")).carry
    assert not any(pin.startswith("nvidia") for pin in mac)


def test_a_glibc_takes_the_wheels_of_older_ones_under_all_their_names() -> None:
    """manylinux2014 is manylinux_2_17, as PEP 600 has it."""
    tags = LINUX.tags()
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} < set(tags)
    older = Elsewhere("3.12", "manylinux_2_12_x86_64").tags()
    assert "manylinux2010_x86_64" in older
    assert not {"manylinux2014_x86_64", "manylinux_2_13_x86_64"} & set(older)
    assert Elsewhere("3.12", "macosx_14_0_arm64").tags() == ["macosx_14_0_arm64"]


@pytest.mark.parametrize(
    ("python", "tag", "words"),
    [("3", "manylinux_2_28_x86_64", "--python 3"), ("3.12", "linux", "--platform linux"), ("3.12", "win_amd64", "win")],
)
def test_a_machine_that_cannot_be_meant_is_refused(python: str, tag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Elsewhere(python, tag)


def test_a_folder_that_is_there_is_not_packed_into(tmp_path: Path) -> None:
    done = bench("bundle", "--sweep", "quick", "--out", tmp_path)
    assert done.code == 2
    assert f"--out {tmp_path}" in done.said
    assert "choose another" in done.said


# -- parts -------------------------------------------------------------------------------------------------------------


def parts(folder: Path, content: bytes, size: int) -> list[dict[str, Any]]:
    """What was told of content that was packed into parts of a size."""
    with Parts(folder / "bundle", size) as written:
        written.write(content)
    return written.told


@pytest.mark.parametrize(("written", "sizes"), [([3, 3, 3], [4, 4, 1]), ([8], [4, 4]), ([1, 11], [4, 4, 4]), ([], [])])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_parts_have_the_size_and_give_everything_in_order(
    written: list[int], sizes: list[int], at_once: int, tmp_path: Path
) -> None:
    content, start = bytes(range(sum(written))), 0
    with Parts(tmp_path / "bundle", 4) as packed:
        for size in written:
            assert packed.write(content[start : start + size]) == size
            start += size
    assert [(part["name"], part["bytes"]) for part in packed.told] == [
        (f"bundle.{number:03d}", size) for number, size in enumerate(sizes)
    ]
    require_whole(tmp_path, packed.told)
    joined = Joined([tmp_path / part["name"] for part in packed.told])
    assert b"".join(iter(lambda: joined.read(at_once), b"")) == content


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("remove", r"^bundle\.001 is missing: copy bundle\.001 again into "),
        ("shorten", r"^bundle\.001 has 3 bytes instead of 4: copy bundle\.001 again into "),
        ("flip", r"^bundle\.001 is damaged \(its SHA-256 is another\): copy bundle\.001 again into "),
    ],
)
def test_a_part_that_is_not_whole_is_named(harm: str, words: str, tmp_path: Path) -> None:
    told = parts(tmp_path, b"0123456789", 4)
    part = tmp_path / "bundle.001"
    match harm:
        case "remove":
            part.unlink()
        case "shorten":
            part.write_bytes(b"456")
        case "flip":
            part.write_bytes(b"4568")
    with pytest.raises(Unusable, match=words):
        require_whole(tmp_path, told)


def test_all_parts_that_are_not_whole_are_named_at_once(tmp_path: Path) -> None:
    told = parts(tmp_path, b"0123456789", 4)
    (tmp_path / "bundle.000").unlink()
    (tmp_path / "bundle.002").write_bytes(b"98")
    with pytest.raises(Unusable, match=r"copy bundle\.000, bundle\.002 again"):
        require_whole(tmp_path, told)


def small(folder: Path, **facts: Any) -> dict[str, Any]:
    """The manifest of a small bundle in a folder, which holds a file `held`."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("held")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"bytes"))
    manifest = {
        "python": HERE,
        "platform": f"manylinux_2_28_{platform.machine()}",
        "locked": False,
        "families": {},
        "options": [],
        "places": {},
        "parts": parts(folder, sink.getvalue(), 4000),
        **facts,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return manifest


def test_a_bundle_is_unpacked_once_and_another_in_its_place(tmp_path: Path) -> None:
    manifest, into = small(tmp_path), tmp_path / "into"
    assert len(manifest["parts"]) > 1
    content = unpack(tmp_path, manifest_in(tmp_path), into)
    assert [path.name for path in content.iterdir()] == ["held"]
    assert (content / "held").read_bytes() == b"bytes"
    (content / "made").touch()
    for part in manifest["parts"]:
        (tmp_path / part["name"]).unlink()
    assert (unpack(tmp_path, manifest, into) / "made").exists(), "the parts are not needed again"
    assert not (unpack(tmp_path, small(tmp_path, options=["--images", "4"]), into) / "made").exists()


@pytest.mark.parametrize(
    ("text", "words"), [(None, "is missing"), ("{", "is damaged"), ("[]", "is damaged"), ("{}", "it lacks families")]
)
def test_a_manifest_that_is_not_whole_is_named(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(Unusable, match=f"{MANIFEST} .*{words}"):
        manifest_in(tmp_path)


def test_the_program_beside_a_damaged_part_says_so_and_ends(tmp_path: Path) -> None:
    small(tmp_path)
    shutil.copyfile(GUEST / "offline.py", tmp_path / PROGRAM)
    (tmp_path / "bundle.000").write_bytes(b"")
    command = [sys.executable, "-I", "-S", str(tmp_path / PROGRAM), "--folder", str(tmp_path / "into")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"bundle: bundle.000 has 0 bytes instead of 4000: copy bundle.000 again into {tmp_path}\n"


# -- interpreters ------------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """Put a wheel of a package of version 1 with these files into a folder."""
    about = f"{name}-1.dist-info"
    held = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in held.items()]
    held[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        for path, data in held.items():
            archive.writestr(path, data)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def machine(folder: Path, families: dict[str, Any], **facts: Any) -> Machine:
    """The machine of the tests with a bundle for it, whose families these are."""
    return Machine(small(folder, families=families, **facts), folder / "content", folder / "into")


def test_the_program_names_families_as_the_bench_does() -> None:
    assert offline.variable("pytorch-cuda") == variable("pytorch-cuda") == "BENCH_ENV_PYTORCH_CUDA"


def test_an_interpreter_that_has_what_was_left_out_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("BENCH_ENV_ONNX", "/somewhere/python")
    families = {
        "torchscript": {"left": ["numpy", "pytest"], "wheels": ""},
        "onnx": {"left": [], "wheels": "wheels"},
        "openvino": {"left": ["no-such-package"], "wheels": ""},
        "ncnn": {"left": [], "wheels": "wheels"},
    }
    found = machine(tmp_path, families, locked=True).guests()
    assert found == {"BENCH_ENV_TORCHSCRIPT": sys.executable}
    assert capsys.readouterr().out.splitlines() == [
        f"torchscript: {sys.executable}",
        "onnx: /somewhere/python, as BENCH_ENV_ONNX says",
        "openvino: no interpreter here has no-such-package; name one with BENCH_ENV_OPENVINO. Its cells will fail.",
        "ncnn: the packages that were packed",
    ]


def test_environments_are_made_of_what_was_packed_and_on_top_of_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the uv and the wheels of the bundle alone: no index is asked, whatever the user's settings say."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    uv, wheels, locks = find_uv(), tmp_path / "content" / "wheels", tmp_path / "content" / "locks"
    assert uv is not None
    wheel(wheels, "uv", {"uv-1.data/scripts/uv": Path(uv).read_bytes()})
    wheel(wheels, "packed", {"packed.py": b"answer = 42\n"})
    locks.mkdir()
    for family in ("alone", "above"):
        (locks / f"{family}.txt").write_text("packed==1\n", encoding="utf-8")
    families = {
        "alone": {"left": [], "wheels": "wheels"},
        "above": {"left": ["numpy"], "wheels": "wheels"},
    }
    found = machine(tmp_path, families).guests()
    code = "import importlib.util, packed; print(packed.answer, importlib.util.find_spec('numpy') is not None)"
    said = {name: subprocess.check_output([python, "-c", code], text=True) for name, python in found.items()}
    assert said == {"BENCH_ENV_ALONE": "42 False\n", "BENCH_ENV_ABOVE": "42 True\n"}
    (wheels / "packed-1-py3-none-any.whl").unlink()
    assert machine(tmp_path, families).guests() == found, "what is there is not made again"
    (locks / "alone.txt").write_text("packed==2\n", encoding="utf-8")
    with pytest.raises(Unusable, match="packed"):
        machine(tmp_path, families).guests()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"python": "3.99"}, rf"for Python 3\.99, and none is on PATH; there are: {HERE} .* --python"),
        ({"platform": "manylinux_2_28_riscv64"}, "for manylinux_2_28_riscv64, this is .*--platform"),
    ],
)
def test_a_bundle_for_another_machine_says_so(
    facts: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unusable, match=words):
        machine(tmp_path, {}, **facts)


def test_options_of_a_run_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[argparse.Namespace, Sequence[str]]] = []

    def run(arguments: argparse.Namespace, options: Sequence[str]) -> int:
        seen.append((arguments, options))
        return 1

    monkeypatch.setattr(offline, "run", run)
    assert offline.main(["--images", "4", "--folder", "x", "-k", "not latency"]) == 1
    assert seen[0][0].folder == Path("x")
    assert seen[0][1] == ["--images", "4", "-k", "not latency"]


# -- the checkpoint ----------------------------------------------------------------------------------------------------


def test_what_a_checkpoint_says_is_carried_to_a_machine_that_cannot_look(
    environments: Environments, cache: Path, tmp_path: Path
) -> None:
    here = checkpoint.look(str(DEMO_CHECKPOINT), environments, cache)
    checkpoint.carry(here.sha256, environments, cache, tmp_path)
    there = Environments(MATRICES, tmp_path)
    assert checkpoint.look(str(DEMO_CHECKPOINT), there, tmp_path) == here
    assert not (tmp_path / "envs").exists(), "nothing was installed to look with"


# -- the whole way -----------------------------------------------------------------------------------------------------

WITHOUT_NETWORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
import seal
seal.leave_network()
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.options
@pytest.mark.skipif(HERE != PYTHON_VERSION, reason="environments need Python 3.11")
@pytest.mark.skipif(not SECOND.is_file(), reason="there is no second interpreter")
@pytest.mark.skipif(NETWORK in refusals(), reason="this system takes the network from no process")
def test_a_bundle_gives_the_same_scores_elsewhere_without_a_network(tmp_path: Path) -> None:
    """What it lacks, torch, another interpreter has; that and everything else is found and filled in by itself."""
    model = shutil.copyfile(DEMO_CHECKPOINT, tmp_path / "best.pt")
    asked = ["--model", model, "--data", demo.prepare(USERS_CACHE / "demo"), "--sweep", "quick"]
    asked += ["--options", "onnx,ncnn", "--precisions", "fp32,int8", "--targets", "cpu"]
    ours = bench("run", *asked, "--results", tmp_path, "--run-id", "here", "-k", "not latency")
    packed = bench("bundle", *asked, "--out", tmp_path / "parts", "--leave", "torch,torchvision", "--part-mb", 60)
    assert packed.code == 0, packed.said
    held = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert held == sorted([*(f"bundle.{number:03d}" for number in range(len(held) - 2)), MANIFEST, PROGRAM])
    assert all(path.stat().st_size <= 60e6 for path in (tmp_path / "parts").iterdir())

    there = (tmp_path / "parts").rename(tmp_path / "carried")
    torch = Environments(MATRICES, USERS_CACHE).ensure("pytorch").python.parent
    variables = {"PATH": f"{torch}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    away = [sys.executable, "-I", "-c", WITHOUT_NETWORK, str(GUEST)]
    command = [*away, str(SECOND), str(there / PROGRAM), "--run-id", "there", "-k", "not latency"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == ours.code, done.stdout + done.stderr
    assert f"Making environments with {SECOND}" in done.stdout
    assert "pytorch: the packages that were packed, on top of" in done.stdout
    assert "onnx: the packages that were packed\n" in done.stdout

    found = tmp_path / "bench" / "results" / "there"
    cells = [store.read_table(run, "cells").set_index("cell_id") for run in (tmp_path / "here", found)]
    assert list(cells[0].status) == list(cells[1].status)
    assert list(cells[0].reason_code) == list(cells[1].reason_code), "an exporter's refusal is carried"
    assert cells[1].map50_95.dropna().to_dict() == cells[0].map50_95.dropna().to_dict()
    assert cells[0].map50_95.min() > 0.5
    assert cells[1].artifact_sha256.to_dict() == cells[0].artifact_sha256.to_dict()
    told = [
        store.read_table(run, "environment").set_index(["scope", "key"]).value for run in (tmp_path / "here", found)
    ]
    assert told[0]["run", "data_sha256"] == told[1]["run", "data_sha256"]
    assert told[0]["run", "commit"] == told[1]["run", "commit"], "what was packed says what it is of"
    assert told[1]["machine", "python"].startswith(f"{PYTHON_VERSION}.")
    assert told[0]["machine", "python"] != told[1]["machine", "python"], "another interpreter"
    assert (found / "report.html").is_file()
    with tarfile.open(tmp_path / "bench" / "there.tar.gz") as archive:
        assert "there/cells.parquet" in archive.getnames()

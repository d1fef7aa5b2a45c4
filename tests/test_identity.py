"""What tells machines, artifacts, data and models apart, where their names do not."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image as PillowImage
from report_fixture import write_run
from rich.console import Console
from running import bench
from test_artifacts import CoreEnvironments, plan
from test_dataset import BOX_ROW, data_file, write_image

from bench import store
from bench.decide.claims.checks._common import Place
from bench.decide.claims.tables import Tables, load
from bench.decide.deploy import candidates
from bench.environments import locked
from bench.environments.installers import PYTHON_VERSION
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.grid.matrix import Cell
from bench.grid.schema import Signs, Target
from bench.measure import exporting
from bench.measure.identity import Identity, changed, identity
from bench.measure.outfit import Ingredients, Outfit
from bench.places import GUEST, MATRICES
from bench.progress import Reporter
from bench.site import panel
from bench.store import reading
from bench.tasks.dataset import Dataset
from bench.tasks.detect.task import DETECT
from bench.tasks.detect.task import load as load_set
from bench.wall.artifacts import Artifacts
from bench.words.names import apart

Patch = pytest.MonkeyPatch


def program(folder: Path, name: str, text: str) -> None:
    """A program of that name in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def first_on_path(monkeypatch: Patch, folder: Path) -> None:
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


# -- machines --------------------------------------------------------------------------------------------------------

EPYC = {
    "cpu": "AMD EPYC", "machine": "x86_64", "cpu_flags": "avx2 avx512f", "cpu_cores_physical": "1",
    "cpu_cores_logical": "2", "memory_bytes": "8000000000", "system": "Linux-6.1-x86_64",
}  # fmt: skip


def run_of(folder: Path, facts: dict[str, str], **of_the_run: str) -> Path:
    """A run that says this of its machine and of itself; its name is the folder's."""
    write_run(folder, options=("pytorch", "onnx"), problems=False)
    cells = store.read_table(folder, "cells").astype(object)
    cells = cells.where(cells.notna(), None).assign(run_id=folder.name, model=of_the_run.get("model", "demo"))
    cells = cells.assign(model_sha256=of_the_run.get("model_sha256"))
    store.write_table(folder, "cells", cells.to_dict("records"))
    rows = [{"scope": "machine", "key": key, "value": value} for key, value in facts.items()]
    rows += [{"scope": "run", "key": key, "value": value} for key, value in of_the_run.items()]
    store.write_table(folder, "environment", rows)
    return folder


def together(*folders: Path) -> Tables:
    return load(folders, matrix.load())


@pytest.mark.parametrize(
    "other",
    [
        EPYC | {"cpu_cores_logical": "64", "memory_bytes": "500000000000"},
        EPYC | {"cpu_flags": "avx2"},  # hidden by the hypervisor
        EPYC | {"machine": "aarch64", "cpu_flags": "asimd"},
        EPYC | {"cpu_cores_physical": "2"},
        EPYC | {"accelerators": "GPU 0: NVIDIA L4, driver 570.86.15"},
        EPYC | {"system": "Windows-11"},
    ],
)
def test_machines_of_one_brand_are_told_apart(tmp_path: Path, other: dict[str, str]) -> None:
    found = together(run_of(tmp_path / "one", EPYC), run_of(tmp_path / "two", other))
    assert found.grid.machine.nunique() == 2
    assert found.environment.machine.nunique() == 2
    assert len({Place.of(row) for row in found.cells}) == len(found.cells), "no two are taken together"
    assert len(found.on(["EPYC"]).rows) == len(found.rows), "the processor's name is in both"


def test_a_machine_keeps_its_name_over_kernels_and_where_an_older_run_says_less(tmp_path: Path) -> None:
    later = EPYC | {"system": "Linux-6.12-x86_64", "cpu_mhz": "2400"}
    assert set(together(run_of(tmp_path / "one", EPYC), run_of(tmp_path / "two", later)).grid.machine) == {
        "AMD EPYC, 2 CPUs, 8 GB, Linux"
    }
    little = {name: EPYC[name] for name in machine.NAMING if name in EPYC}
    assert set(together(run_of(tmp_path / "three", little)).grid.machine) == {"AMD EPYC, 2 CPUs, 8 GB, Linux"}


@pytest.mark.parametrize(
    ("model", "lscpu", "name"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", "Model name:   Cortex-A76", "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"),
        ("", "Architecture: aarch64\nModel name: Neoverse-N1\nBIOS Model name: virt", "Neoverse-N1"),
        ("Orange Pi 5\0", "Model name: Cortex-A55\nModel name: Cortex-A76", "Cortex-A55 + Cortex-A76 (Orange Pi 5)"),
        ("NVIDIA Jetson AGX Orin\0", "Model name: -", "NVIDIA Jetson AGX Orin"),
        ("", "", ""),
    ],
)
def test_an_arm_processor_is_named_by_its_cores_and_board(model: str, lscpu: str, name: str) -> None:
    """Two boards are both `aarch64` to the kernel."""
    assert machine.board_name(model, lscpu.splitlines()) == name


def graphics(folder: Path, *cards: str) -> Path:
    """An nvidia-smi that lists cards, each as name, compute capability and driver."""
    listed = "\n".join(f"echo 'GPU {at}: {card.partition(',')[0]} (UUID: GPU-{at})'" for at, card in enumerate(cards))
    said = "\n".join(f"echo '{card}'" for card in cards)
    program(folder, "nvidia-smi", f'if [ "$1" = -L ]; then\n{listed}\nelse\n{said}\nfi')
    return folder


H100, L4 = "NVIDIA H100 80GB HBM3, 9.0, 570.86.15", "NVIDIA L4, 8.9, 570.86.15"
NEWER = H100.replace("570.86.15", "580.10.2")


def test_a_machines_folder_is_that_of_its_devices_and_stays_over_drivers(tmp_path: Path, monkeypatch: Patch) -> None:
    names = []
    for place, cards in enumerate(((H100,), (NEWER,), (L4,))):
        with pytest.MonkeyPatch.context() as patch:
            first_on_path(patch, graphics(tmp_path / str(place), *cards))
            names.append(machine.machine_id())
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    names.append(machine.machine_id())
    assert names[0] == names[1]
    assert len(set(names)) == 3


# -- artifacts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "cache", CoreEnvironments(MATRICES, tmp_path / "cache"))


def engine_key(artifacts: Artifacts, weights: Path, option: str = "tensorrt") -> str:
    """The content address of an option's FP32 artifact on a GPU."""
    read = matrix.load()
    cell = Cell("m", read.options[option], "fp32", "cuda", 640, 1, 1)
    return exporting.key(exporting.stages(cell, read, weights, ()), artifacts)


def test_an_engine_is_of_its_kind_of_card_and_of_its_driver(artifacts: Artifacts, tmp_path: Path) -> None:
    weights = plan(tmp_path).weights
    keys: dict[str, list[str]] = {"tensorrt": [], "onnx": []}
    for place, cards in enumerate(((H100,), (H100, H100), (NEWER,), (L4,), (H100, L4))):
        with pytest.MonkeyPatch.context() as patch:
            first_on_path(patch, graphics(tmp_path / str(place), *cards))
            for option, found in keys.items():
                found.append(engine_key(artifacts, weights, option))
    assert keys["tensorrt"][0] == keys["tensorrt"][1], "a second card of the kind changes nothing"
    assert len(set(keys["tensorrt"])) == 4
    assert len(set(keys["onnx"])) == 1, "any device runs it"


def test_of_two_kinds_of_card_the_one_that_is_chosen_counts(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: Patch
) -> None:
    first_on_path(monkeypatch, graphics(tmp_path / "bin", H100, L4))
    keys = set()
    for chosen in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        keys.add(engine_key(artifacts, plan(tmp_path).weights))
    assert len(keys) == 2


def test_what_is_calibrated_is_of_the_processor_and_threads_that_did_it(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: Patch
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"pixels")
    plain = plan(tmp_path)
    calibrated = dataclasses.replace(plain, calibration=(image,))
    keys = [(artifacts.key(plain), artifacts.key(calibrated))]
    monkeypatch.setattr(machine, "cpu_flags", lambda: ("avx2",))
    keys.append((artifacts.key(plain), artifacts.key(calibrated)))
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    keys.append((artifacts.key(plain), artifacts.key(calibrated)))
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    keys.append((artifacts.key(plain), artifacts.key(calibrated)))
    assert len({of_plain for of_plain, _ in keys}) == 1
    assert len({of_calibrated for _, of_calibrated in keys}) == 4


def test_an_installed_compiler_is_part_of_what_comes_out(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: Patch
) -> None:
    """The exporter for the Edge TPU adds what the compiler makes, where there is one."""
    read = matrix.load()
    cell = Cell("m", read.options["edgetpu"], "int8-full", "edgetpu", 320, 1, 1)

    def key() -> str:
        return exporting.key(exporting.stages(cell, read, plan(tmp_path).weights, ()), artifacts)

    keys = [key()]
    for version in ("16.0", "17.0"):
        program(tmp_path / version, "edgetpu_compiler", f"echo Edge TPU Compiler version {version}")
        first_on_path(monkeypatch, tmp_path / version)
        keys.append(key())
    assert len(set(keys)) == 3


LOCK = "numpy==2.4.0\ntorch==2.13.0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Matrices with one environment, which has torch."""
    envs = tmp_path / "matrices" / "envs"
    envs.mkdir(parents=True)
    (envs / "small.txt").write_text(LOCK, encoding="utf-8")
    return envs.parent


def built(folder: Path, torch: str) -> str:
    """Identity of the environment as an installer leaves it, with this build of torch."""
    cache = folder.parent / f"cache-{torch}"
    environments = Environments(folder, cache)
    _, _, directory = environments._locate("small")

    def install(_requirements: Path) -> str:
        site = directory / "lib" / f"python{PYTHON_VERSION}" / "site-packages"
        for name in ("numpy-2.4.0", f"torch-{torch}"):
            (site / f"{name}.dist-info").mkdir(parents=True)
            (site / f"{name}.dist-info" / "RECORD").touch()
        program(directory / "bin", "python", "echo Python 3.11.0")
        return "an installer"

    directory.parent.mkdir(parents=True)
    locked._build("small", directory, LOCK, install)
    assert environments.existing("small") is not None
    return environments.identity("small")


def test_an_environment_is_of_its_build_of_torch(folder: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("BENCH_TORCH_BACKEND", "cpu")
    foreseen = Environments(folder, folder.parent / "empty").identity("small")
    builds = {torch: built(folder, torch) for torch in ("2.13.0+cpu", "2.13.0+cu130", "2.13.0")}
    assert len(set(builds.values())) == 3
    assert foreseen == builds["2.13.0+cpu"], "known before it is installed"
    assert built(folder, "2.13.0+cu128") not in builds.values()


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(platform, "machine", lambda: "aarch64"),
        lambda patch: patch.setattr(sys, "platform", "darwin"),
        lambda patch: patch.setattr(locked, "PYTHON_VERSION", "3.14"),
        lambda patch: patch.setenv("BENCH_TORCH_BACKEND", "cu130"),
    ],
)
def test_an_environment_is_of_its_platform_and_its_python(
    folder: Path, monkeypatch: Patch, change: Callable[[Patch], None]
) -> None:
    monkeypatch.setenv("BENCH_TORCH_BACKEND", "cpu")

    def now() -> str:
        return Environments(folder, folder.parent / "cache").identity("small")

    before = now()
    assert now() == before
    change(monkeypatch)
    assert now() != before


def test_what_is_exported_before_an_environment_is_there_is_of_the_one_that_is_made(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    """`auto` is the installer's to resolve: only what it installed says which build that was."""

    class Resolving(CoreEnvironments):
        made = False

        def ensure(self, family: str, on_output: Any = None) -> locked.Env:
            self.made = True
            return super().ensure(family, on_output)

        def identity(self, family: str) -> str:
            del family
            return "2.13.0+cu130" if self.made else "2.13.0+auto"

    del monkeypatch
    artifacts = Artifacts(tmp_path / "cache", Resolving(MATRICES, tmp_path / "cache"))
    request = plan(tmp_path)
    foreseen = artifacts.key(request)
    made = artifacts.ensure(request)
    assert made.manifest["inputs"]["environment"] == "2.13.0+cu130"
    assert made.key == artifacts.key(request) != foreseen
    assert artifacts.ensure(request) == made


# -- cells -----------------------------------------------------------------------------------------------------------


class House:
    """A house of its own, and the identity that a cell has in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(MATRICES, root / "matrices", ignore=shutil.ignore_patterns("claims", "packages"))
        shutil.copytree(GUEST, root / "guest", ignore=shutil.ignore_patterns("__pycache__"))

    def identity(self, option: str, target: str) -> Identity:
        read = matrix.load(self.root / "matrices")
        cache = self.root / "cache"
        given = Ingredients(
            read, read.sweep("smoke"), cache, DETECT, {}, cast("Dataset", None),
            CoreEnvironments(read.directory, cache), Reporter(Console(), enabled=False),
        )  # fmt: skip
        return identity(Outfit(given), Cell("m", read.options[option], "fp32", target, 320, 1, 1), "key")

    def edit(self, name: str, text: str = "\n") -> None:
        path = self.root / name
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("matrices/envs/ort-web-js/package-lock.json", ["lock"]),
        ("guest/runtimes/ort_web.js", ["adapter"]),
        ("guest/runtimes/page.js", ["adapter"]),
        ("guest/runtimes/page.html", ["adapter"]),
        ("guest/runtimes/webgpu.js", ["adapter"]),
        ("guest/runtimes/_page_server.py", ["adapter"]),
        ("guest/runtimes/_webdriver.py", ["adapter"]),
        ("guest/runtimes/tfjs.js", []),
        ("matrices/envs/litert-js/package-lock.json", []),
    ],
)
def test_a_cell_in_a_page_is_of_all_that_its_page_is_made_of(tmp_path: Path, name: str, parts: list[str]) -> None:
    house = House(tmp_path)
    before = house.identity("ort-web", "browser-wasm")
    assert house.identity("ort-web", "browser-wasm") == before
    house.edit(name)
    assert changed(before, house.identity("ort-web", "browser-wasm")) == parts


def test_a_cell_in_a_page_is_of_the_browsers_version(tmp_path: Path) -> None:
    house, found = House(tmp_path), []
    for version in ("140.0.7339.80", "141.0.7390.54"):
        program(tmp_path / version, "chromium", f"echo Chromium {version}")
        with pytest.MonkeyPatch.context() as patch:
            first_on_path(patch, tmp_path / version)
            found.append(house.identity("ort-web", "browser-wasm"))
    assert changed(*found) == ["device"]
    assert "140.0.7339.80" in found[0]["device"]


def test_a_javascript_folder_is_of_its_lock(tmp_path: Path) -> None:
    shutil.copytree(MATRICES / "envs" / "ort-web-js", tmp_path / "envs" / "ort-web-js")
    folders = JsEnvironments(tmp_path, tmp_path / "cache")
    before = folders.identity("ort-web-js")
    (tmp_path / "envs" / "ort-web-js" / "package-lock.json").write_text("{}", encoding="utf-8")
    assert folders.identity("ort-web-js") != before
    assert not (tmp_path / "cache").exists()


def test_a_device_that_the_kernel_drives_is_of_the_kernel(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "vendor").write_text("0x8086\n", encoding="utf-8")
    signs = Signs(files=[str(tmp_path / "vendor")], contains="0x8086")
    npu = Target(name="The NPU", device="npu", needs="it", detect=signs)
    before = machine.device(npu)
    assert str(tmp_path / "vendor") in before
    monkeypatch.setattr(platform, "release", lambda: "99.1")
    assert machine.device(npu) != before


# -- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images that differ, the first with an object."""
    for name, width in (("a", 40), ("b", 60)):
        write_image(tmp_path / "set" / f"images/val/{name}.png", width)
    (tmp_path / "set/labels/val").mkdir(parents=True)
    (tmp_path / "set/labels/val/a.txt").write_text(BOX_ROW)
    return tmp_path / "set"


def data_sha256(root: Path) -> str:
    return load_set(data_file(root, "val: images/val\nnames: [cat, dog]\n")).sha256


def flip_a_pixel(root: Path) -> None:
    path = root / "images/val/b.png"
    with PillowImage.open(path) as image:
        pixels = image.copy()
    red, green, blue = cast("tuple[int, int, int]", pixels.getpixel((7, 3)))
    pixels.putpixel((7, 3), (red ^ 1, green, blue))
    pixels.save(path)


def swap_the_images(root: Path) -> None:
    a, b, c = (root / f"images/val/{name}.png" for name in "abc")
    a.rename(c)
    b.rename(a)
    c.rename(b)


def move_the_box(root: Path) -> None:
    (root / "labels/val/a.txt").write_text(BOX_ROW.replace("0.25", "0.26"))


def label_the_other_too(root: Path) -> None:
    (root / "labels/val/b.txt").write_text(BOX_ROW)


@pytest.mark.parametrize("change", [flip_a_pixel, swap_the_images, move_the_box, label_the_other_too])
def test_data_are_other_data_where_a_pixel_or_a_label_is_another(root: Path, change: Callable[[Path], None]) -> None:
    before = data_sha256(root)
    change(root)
    assert data_sha256(root) != before


def test_a_copy_under_other_names_is_the_same_data(root: Path, tmp_path: Path) -> None:
    before = data_sha256(root)
    copy = shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    assert data_sha256(copy) == before
    for old, new in (("a", "first"), ("b", "second")):
        (copy / f"images/val/{old}.png").rename(copy / f"images/val/{new}.png")
    (copy / "labels/val/a.txt").rename(copy / "labels/val/first.txt")
    assert data_sha256(copy) == before, "the order is the same"


# -- models ----------------------------------------------------------------------------------------------------------

ONE, OTHER, NEAR = "1a2b3c4" + "0" * 57, "9f8e7d6" + "0" * 57, "1a2b3c4" + "f" * 57


def test_names_that_several_share_get_as_much_of_the_hash_as_tells_them_apart() -> None:
    assert apart([("best", ONE), ("best", ONE), ("last", OTHER)]) == {("best", ONE): "best", ("last", OTHER): "last"}
    assert apart([("best", ONE), ("best", OTHER)]) == {
        ("best", ONE): "best (1a2b3c4)", ("best", OTHER): "best (9f8e7d6)",
    }  # fmt: skip
    assert set(apart([("best", ONE), ("best", NEAR)]).values()) == {"best (1a2b3c40)", "best (1a2b3c4f)"}
    assert set(apart([("best", ONE), ("best", "")]).values()) == {"best (1a2b3c4)", "best"}
    assert apart([]) == {}


def model(digest: str) -> dict[str, str]:
    return {"model": "best", "model_sha256": digest, "data": "parts"}


def test_two_checkpoints_of_one_name_are_never_one_model(tmp_path: Path) -> None:
    digests = {"r1": ONE, "r2": OTHER, "r3": ONE}
    runs = [run_of(tmp_path / name, EPYC, **model(digest)) for name, digest in digests.items()]
    found = together(*runs)
    assert found.grid.groupby("run_id").model.first().to_dict() == {
        "r1": "best (1a2b3c4)", "r2": "best (9f8e7d6)", "r3": "best (1a2b3c4)",
    }  # fmt: skip
    places = [Place.of(row) for row in found.cells]
    assert len(set(places)) == 2 * len(places) / 3, "the first and the third are runs of one model"
    assert set(together(runs[0], runs[2]).grid.model) == {"best"}, "alone it keeps its name"
    known = [(data, field) for data in map(reading.load, runs) for field in candidates.fields(data)]
    chooser = panel.build(known, "en", several=True)
    assert "best (1a2b3c4)" in chooser
    assert "best (9f8e7d6)" in chooser
    assert "--model best --imgsz" in chooser, "the command names it as its run does"


def test_a_run_says_which_model_and_data_it_is_of(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r", EPYC, **model(ONE), data_sha256=OTHER)
    line = "model best (1a2b3c4), data parts (9f8e7d6)"
    assert f"Of {line}" in bench("show", run).said
    written = bench("report", run)
    assert written.code == 0, written.said
    assert f"Run r of {line}" in (run / "report.html").read_text(encoding="utf-8")
    assert reading.load(run_of(tmp_path / "s", EPYC)).subjects == ()

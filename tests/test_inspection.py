"""Everything that is wrong with a model and its data is told in one go, before anything is exported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from running import USERS_CACHE, Done, bench
from sets import BOX, IN_PX, data_file, fill, label, load_set, picture, problems_of

from bench import demo, inspect
from bench.environments.locked import Environments
from bench.places import EXPORTERS
from bench.reasons import PROBLEMS_TOLD, Collector, Problems, UsageError
from bench.tasks import sizes
from bench.tasks.detect.task import load
from bench.tasks.images import image_size, read_image, upright_size
from bench.tasks.sizes import Sizes
from bench.wall.checkpoint import Checkpoint, described
from bench.wall.worker import Worker

MODELS = """
import sys
from pathlib import Path
import torch
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel
def chosen(model):
    model.end2end = True
    return model

made = {
    "grey": lambda: DetectionModel("yolo11n.yaml", ch=1, nc=2, verbose=False),
    "four": lambda: DetectionModel("yolo11n.yaml", ch=4, nc=2, verbose=False),
    "segment": lambda: SegmentationModel("yolo11n-seg.yaml", ch=3, nc=2, verbose=False),
    "silent": lambda: SegmentationModel("yolo11n-seg.yaml", ch=3, nc=2, verbose=False),
    "pose": lambda: PoseModel("yolo11n-pose.yaml", ch=1, nc=1, data_kpt_shape=(4, 3), verbose=False),
    "chosen": lambda: chosen(DetectionModel("yolov10n.yaml", ch=3, nc=2, verbose=False)),
    "both": lambda: DetectionModel("yolov10n.yaml", ch=3, nc=2, verbose=False),
    "large": lambda: DetectionModel("yolov8n-p6.yaml", ch=3, nc=2, verbose=False),
}
for name, make in made.items():
    told = {"train_args": {"task": name}} if name in ("segment", "pose") else {}  # as training writes them
    torch.save({"model": make(), **told}, Path(sys.argv[1], f"{name}.pt"))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


# -- all in one go ---------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(root: Path) -> None:
    """A damaged image, two wrong rows of one label file, one of another, a line of a list, and the channels."""
    picture(root / "images/val/c.png").write_bytes(b"rubbish")
    label(root, "a", f"7 0.5 0.5 0.1 0.1\n{BOX}\n1 0.5 0.5 0.1\n")
    label(root, "b", "0 50 50 10 10\n")
    (root / "list.txt").write_text("images/val/a.png,\nimages/val/c.png\n")
    text = "channels: 1\nval: [images/val, list.txt, images/gone]\n"
    found = problems_of(data_file(root, text))
    words = [
        "set.yaml, line 1: 'channels: 1'",
        "list.txt, line 1: 'images/val/a.png,' does not end as an image does",
        "set.yaml, line 2: 'val: images/gone' leads to",
        "OpenCV cannot decode",
        "a.txt, line 1: class 7 is not one of 0 to 1",
        "a.txt, line 3: 4 columns",
        "b.txt, line 1: box 50 50 10 10 is out of range",
    ]
    assert [word in problem for word, problem in zip(words, found, strict=True)] == [True] * len(words), found
    with pytest.raises(Problems, match=r"^7 problems:\n") as error:
        load(root / "set.yaml")
    assert error.value.found == found


def test_a_message_holds_a_few_problems_and_counts_the_rest() -> None:
    assert str(Problems(["only one"])) == "only one"
    many = str(Problems(f"problem {number}" for number in range(PROBLEMS_TOLD + 3)))
    assert len(many.splitlines()) == PROBLEMS_TOLD + 2
    assert many.splitlines()[-1] == "  ... and 3 more; `yolo11-bench inspect` lists them"


def test_a_collector_keeps_each_problem_once_on_one_line() -> None:
    def fail() -> int:
        raise UsageError("no\n  way")

    problems = Collector()
    assert problems.of(fail) is None
    assert problems.of(fail) is None
    assert problems.of(lambda: 3) == 3
    assert problems.found == ("no way",)


def test_one_stray_row_of_another_kind_is_one_problem(root: Path) -> None:
    """Were its kind taken for the file's, every other row would be wrong."""
    label(root, "a", f"{BOX}\n0 0.1 0.1 0.2 0.2 0.3 0.3\n0 0.5 0.5 0.1 0.1\n")
    (problem,) = problems_of(data_file(root))
    assert "line 2: 7 columns where 'class cx cy w h' has 5" in problem
    assert "do not mix boxes and polygons" in problem


# -- what label rows are ---------------------------------------------------------------------------------------------


def test_rows_with_and_without_keypoints_in_one_file_are_boxes(root: Path) -> None:
    """68 and 5 columns, as where some hands have no points: of a file without `kpt_shape` that is an error."""
    label(root, "a", f"0 0.25 0.5 0.5 1 {'0.1 0.1 2 ' * 21}\n{BOX}\n")
    data = load_set(root, "val: images/val\nkpt_shape: [21, 3]\nflip_idx: [0]\n")
    assert data.boxes.tolist()[:2] == [(0, 0, 0.0, 0.0, 20.0, 20.0, 400.0, False), IN_PX]
    assert data.counts.kinds == {"boxes with keypoints": 2}


def test_triangles_are_polygons_where_no_keypoints_are_stated(root: Path) -> None:
    """Seven columns: one keypoint of two values behind a box, or three corners. No `kpt_shape` says the first."""
    label(root, "a", "0 0.25 0.25 0.75 0.25 0.5 0.75\n")
    data = load_set(root)
    assert data.boxes.tolist()[0] == (0, 0, 10.0, 5.0, 20.0, 10.0, 200.0, False)
    assert data.counts.kinds == {"polygons": 1, "boxes": 1}
    assert {one.name: one.count for one in data.remarks} == {"other_labels": 1}


def test_rows_that_repeat_another_are_counted(root: Path) -> None:
    label(root, "a", f"{BOX}\n{BOX}\n0 0.5 0.5 0.1 0.1\n{BOX}\n")
    data = load_set(root)
    assert len(data.boxes) == 3
    assert data.notes == ("Label rows that repeat another of their file are dropped: 2.",)


# -- which way up an image is ----------------------------------------------------------------------------------------


def half(path: Path, **settings: Any) -> Path:
    """48 x 24 px, the left half white."""
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:, :24] = 255
    PillowImage.fromarray(pixels).save(path, **settings)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_that_programs_turn_differently_is_told(tmp_path: Path, suffix: str) -> None:
    """An orientation in XMP alone: Pillow, and with it Ultralytics' size, reads it; OpenCV, whose pixels count, not."""
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    plain = half(tmp_path / f"plain.{suffix}")
    assert image_size(plain) == (48, 24)
    turned = tmp_path / f"turned.{suffix}"
    if suffix == "png":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
        half(turned, pnginfo=chunks)
    else:
        half(turned, xmp=xmp)
    with pytest.raises(UsageError, match=r"turned\.\w+ is 24 x 48 px upright by its header and 48 x 24 px decoded"):
        image_size(turned)


@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
def test_an_avif_is_upright_whatever_its_major_brand_is(tmp_path: Path, brand: bytes) -> None:
    """Any of its brands may be the major one (ISO/IEC 14496-12, 4.3): writers differ."""
    exif = PillowImage.Exif()
    exif[274] = 6  # a quarter turn clockwise: the white half, on the left, comes to lie on top
    path = half(tmp_path / "turned.avif", exif=exif)
    data = bytearray(path.read_bytes())
    assert data[4:12] == b"ftypavif"
    assert data[16:20] == b"avif"  # the first of the compatible brands
    data[8:12] = brand
    path.write_bytes(data)
    assert image_size(path) == (24, 48)
    pixels = read_image(path)
    assert pixels[:20].mean() > 250
    assert pixels[28:].mean() < 5


# -- each image is decoded once --------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded for their size."""
    names: list[str] = []

    def counted(path: Path, data: bytes) -> tuple[int, int]:
        names.append(path.name)
        return upright_size(path, data)

    monkeypatch.setattr(sizes, "upright_size", counted)
    return names


def look(root: Path, kept: Path) -> tuple[list[tuple[int, int] | None], tuple[str, ...]]:
    problems = Collector()
    paths = sorted((root / "images/val").iterdir())
    found = Sizes(kept).of(paths, problems)
    return [None if one is None else (one.width, one.height) for one in found], problems.found


def test_an_image_that_has_not_changed_is_not_decoded_again(root: Path, decoded: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "cache/images/set.json"
    assert look(root, kept) == ([(40, 20)] * 2, ())
    assert sorted(decoded) == ["a.png", "b.png"]
    decoded.clear()
    (root / "images/val/a.png").rename(root / "images/val/renamed.png")
    (root / "images/val/b.png").touch()
    assert look(root, kept) == ([(40, 20)] * 2, ())
    assert decoded == [], "it is the content that is remembered"
    PillowImage.new("RGB", (30, 20)).save(root / "images/val/b.png")
    assert look(root, kept)[0] == [(30, 20), (40, 20)]
    assert decoded == ["b.png"]


def test_an_image_that_cannot_be_used_is_told_every_time(root: Path, decoded: list[str], tmp_path: Path) -> None:
    (root / "images/val/a.png").write_bytes(b"rubbish")
    for _ in range(2):
        found, (problem,) = look(root, tmp_path / "kept.json")
        assert found == [None, (40, 20)]
        assert "a.png" in problem
    assert sorted(decoded) == ["a.png", "a.png", "b.png"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"decoder": "x", "sizes": {}}', '{"decoder": 1, "sizes": {"a": [0]}}']
)
def test_a_damaged_or_foreign_memory_is_none(root: Path, decoded: list[str], tmp_path: Path, content: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(content)
    assert look(root, kept) == ([(40, 20)] * 2, ())
    assert look(root, kept) == ([(40, 20)] * 2, ())
    assert len(decoded) == 2


def test_what_cannot_be_remembered_costs_nothing_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert look(root, tmp_path / "file/kept.json") == ([(40, 20)] * 2, ())


# -- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
def test_what_no_cell_could_run_is_told_of_a_model_before_the_first_export(
    environments: Environments, tmp_path: Path
) -> None:
    env = environments.ensure("export-torch")
    variables = environments.variables()
    subprocess.run(
        [env.python, "-c", MODELS, tmp_path], env=variables, cwd=tmp_path, check=True, capture_output=True, timeout=120
    )
    wanted = {
        "grey": ["takes images of 1 channel; the bench gives every network 3"],
        "four": ["takes images of 4 channels; the bench gives every network 3"],
        "segment": ["is a model for 'segment'; this bench measures detection"],
        "silent": ["has the head Segment; only Detect"],
        "pose": ["is a model for 'pose'", "takes images of 1 channel"],
        "chosen": ["has an end-to-end head"],
        "both": [],
        "large": [],
    }
    with Worker(env.python, EXPORTERS / "checkpoint.py", variables=variables, threads=1) as worker:
        for name, words in wanted.items():
            path = tmp_path / f"{name}.pt"
            model = described(path, "", worker.call("inspect", {"weights": str(path)}, 120))
            problems = Collector()
            problems.of(model.require_usable)
            assert len(problems.found) == len(words), (name, problems.found)
            for problem, word in zip(problems.found, words, strict=True):
                assert problem.startswith(f"{path} {word}")
            assert (model.second_branch() is not None) == (name == "both")
    assert model.stride == 64  # a fourth output, of half the resolution of the third's 32 px
    with pytest.raises(UsageError, match=r"imgsz 96: large\.pt takes multiples of 64 px"):
        model.require_sizes([96, 128])


def model(*names: str) -> Checkpoint:
    return Checkpoint(Path("best.pt"), "best", "", dict(enumerate(names)), 32)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (["dog", "bus", "cat", "ant"], "(the model's 1, 2, 3 are the data file's 2, 3, 1)"),  # three in a circle
        (["dog", "ant", "cat", "bus"], "(the model's 1, 2 are the data file's 2, 1)"),
        (["ant", "bus", "cat", "dog"], "data file's 3, 2, 0, 1; the data file's names are in alphabetical order)"),
    ],
)
def test_the_permutation_of_the_names_is_told(theirs: list[str], told: str) -> None:
    with pytest.raises(UsageError) as error:
        model("dog", "cat", "ant", "bus").require_classes(dict(enumerate(theirs)), Path("data.yaml"))
    assert told in str(error.value)


# -- the command -----------------------------------------------------------------------------------------------------


def demo_file(folder: Path, edit: dict[str, str]) -> Path:
    """A data file of the embedded images, with keys of our own."""
    data = demo.prepare(USERS_CACHE / "demo")
    names = list(load(data, limit=1).names.values())
    keys = {"path": str(data.parent), "train": "images/calib", "val": "images/val", "names": str(names)} | edit
    path = folder / "data.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()), encoding="utf-8")
    return path


def answer(done: Done) -> Any:
    """The JSON in what a command said: its progress is on standard error, which stands before it here."""
    return json.loads(done.said[done.said.index("{\n") :])


def test_the_embedded_model_and_data_are_fit_for_a_run() -> None:
    done = bench("inspect", "--images", "8")
    assert done.code == 0, done.said
    for words in (
        "detect (head Detect)",
        "3 channels, multiples of 32 px",
        "8 of them read",
        "Nothing stands in the way",
    ):
        assert words in done.said


def test_what_is_seen_is_there_as_json(tmp_path: Path) -> None:
    known = list(load(demo.prepare(USERS_CACHE / "demo"), limit=1).names.values())
    data = demo_file(tmp_path, {"names": str(["something else", *known[1:]])})
    done = bench("inspect", "--data", data, "--images", "8", "--format", "json")
    assert done.code == 0, done.said
    facts = answer(done)
    assert facts["ready"] is True
    assert facts["problems"] == []
    (model,) = facts["models"]
    assert model["classes"] == known
    assert (model["task"], model["end_to_end"], model["stride"]) == ("detect", False, 32)
    assert facts["data"]["images"]["read"] == 8
    assert facts["calibration"]["evaluated_too"] == 0
    assert [(one["name"], one["count"]) for one in facts["warnings"]] == [("renamed_classes", 1)]
    seen = inspect(data=data, images=8, cache=USERS_CACHE, progress=False)
    assert json.loads(json.dumps(seen.facts)) == facts, "Python is told the same"
    assert seen.ready
    assert seen.warnings[["name", "count"]].to_numpy().tolist() == [["renamed_classes", 1]]
    assert repr(seen) == "<Inspected: ready, 1 warning>"


def test_from_python_problems_are_told_and_options_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    data = demo_file(tmp_path, {"names": "[only, two]"})
    seen = inspect(data=str(data), images=4, precisions=["fp32"], cache=USERS_CACHE, progress=False)
    assert not seen.ready
    assert any("is not one of 0 to 1" in problem for problem in seen.problems)
    assert seen.warnings.columns.tolist() == ["name", "count", "text"]
    assert repr(seen).startswith(f"<Inspected: {len(seen.problems)} problem")
    with pytest.raises(UsageError, match="onnxx"):
        inspect(options="onnxx", progress=False)


def test_problems_of_model_data_and_calibration_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib/cut.jpg").write_bytes(b"\xff\xd8\xff")
    data = demo_file(tmp_path, {"train": str(tmp_path / "calib"), "names": "[only, two]"})
    (tmp_path / "none.pt").write_bytes(b"this is no checkpoint")
    given = ["--data", data, "--images", "4"]
    done = bench("inspect", *given, "--model", tmp_path / "none.pt", "--format", "json")
    assert done.code == 2, done.said
    found = answer(done)["problems"]
    wanted = ["cut.jpg", "none.pt cannot be used"]
    assert all(any(word in problem for problem in found) for word in wanted), found
    assert any("is not one of 0 to 1" in problem for problem in found), "labels of the demo's further classes"
    assert "(for the calibration of INT8; --precisions can leave that out)" in next(p for p in found if "cut.jpg" in p)
    done = bench("inspect", *given, "--precisions", "fp32")
    assert done.code == 2
    assert "cut.jpg" not in done.said
    assert "detects" in done.said
    assert "Traceback" not in done.said


def test_a_run_begins_with_the_same_look(tmp_path: Path) -> None:
    data = demo_file(tmp_path, {"val": "[images/val, images/gone]", "channels": "1"})
    done = bench("run", "--results", tmp_path / "r", "--data", data, "--images", "4")
    assert done.code == 2, done.said
    assert "bench: 2 problems:" in done.said
    assert "'channels: 1'" in done.said
    assert "images/gone" in done.said
    assert not list((tmp_path / "r").iterdir())


# -- inputs that failed ----------------------------------------------------------------------------------------------

CASES = Path(__file__).parents[2] / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are beside the checkout of those who develop this")
def test_inputs_that_failed_are_understood_or_told() -> None:
    # Its properties: 180 x 120 px (ispe), to be turned anticlockwise by three quarters (irot; ISO/IEC 23008-12).
    assert image_size(CASES / "exif6.avif") == (120, 180)
    for name in ("float32.tif", "trunc_half.jpg", "trunc_eoi.jpg"):
        with pytest.raises(UsageError, match=rf"{name}.*take it out of the split"):
            image_size(CASES / name)

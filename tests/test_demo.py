"""The embedded demo set and checkpoint: exact pixels, sound labels, whole-or-absent data sets."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.demo import CHECKPOINT, prepare, training
from bench.demo.dataset import DEFAULT_COUNTS, FIRST_SEED, SPLIT_CAPACITY
from bench.demo.raster import SUBPIXEL, Draws, fill_polygon
from bench.demo.render import GENERATOR_VERSION, MIN_VISIBLE, NAMES, Box, _Scene, render
from bench.demo.shapes import CLASSES
from bench.reasons import UsageError
from bench.tasks.detect.task import load

ROOT = Path(__file__).parents[1]
FEW = {"val": 5, "calib": 3}

# SHA-256 over the pixels and boxes of the first four validation images, and the data set the committed checkpoint was
# trained on, whose name holds a hash of the generator that draws these images.  When a change of what is drawn is
# meant, raise GENERATOR_VERSION, train the checkpoint again and only then change both values.
FIRST_IMAGES = "e339aeb99bef1d3f9c6fd602b37140e7d30623b98490acccc974b1ab856bd58f"
TRAINED_ON = "demo-v1-bf6276d9b1be-320px-val256-calib128-train5000"

Rendered = tuple[np.ndarray, list[Box]]


@pytest.fixture(scope="module")
def images() -> list[Rendered]:
    """The first 120 validation images."""
    return [render(FIRST_SEED["val"] + k) for k in range(120)]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("cache"), counts=FEW)


@pytest.fixture(scope="module")
def facts() -> dict[str, object]:
    """What the training recipe wrote about the committed checkpoint."""
    loaded: dict[str, object] = json.loads(CHECKPOINT.with_name("training.json").read_text(encoding="utf-8"))
    return loaded


def contents(root: Path) -> dict[str, str]:
    """SHA-256 of every image and label file under a data set, by relative path."""
    found = sorted(p for p in root.rglob("*") if p.suffix in {".png", ".txt"})
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


class TestRenderer:
    def test_pixels_and_boxes_are_the_pinned_ones(self, images: list[Rendered]) -> None:
        digest = hashlib.sha256()
        for image, boxes in images[:4]:
            digest.update(f"{image.shape}{image.dtype}".encode())
            digest.update(image.tobytes())
            digest.update(str(boxes).encode())
        assert digest.hexdigest() == FIRST_IMAGES

    def test_a_seed_does_not_depend_on_what_was_drawn_before(self, images: list[Rendered]) -> None:
        np.random.default_rng(7).random(5)
        image, boxes = render(FIRST_SEED["val"] + 17)
        assert np.array_equal(image, images[17][0])
        assert boxes == images[17][1]

    def test_shapes_types_and_boxes_inside(self, images: list[Rendered]) -> None:
        for image, boxes in images:
            assert image.dtype == np.uint8
            height, width, channels = image.shape
            assert channels == 3
            for box in boxes:
                assert 0 <= box.category < len(NAMES)
                assert min(box.w, box.h) >= 2
                assert box.x >= 0
                assert box.y >= 0
                assert box.x + box.w <= width
                assert box.y + box.h <= height
        sizes = {image.shape[:2] for image, _ in images}
        assert sizes == {(320, 320), (240, 320), (320, 240), (320, 416)}

    def test_every_coco_size_range_and_class_is_well_filled(self, images: list[Rendered]) -> None:
        boxes = [box for _, found in images for box in found]
        area = np.array([box.w * box.h for box in boxes])
        shares = np.histogram(area, bins=[0, 32**2, 96**2, np.inf])[0] / len(area)
        assert shares[0] > 0.2, "small"
        assert shares[1] > 0.3, "medium"
        assert shares[2] > 0.1, "large"
        per_class = np.bincount([box.category for box in boxes], minlength=len(NAMES))
        assert per_class.min() > 0.6 * per_class.mean()
        assert per_class.max() < 1.5 * per_class.mean()

    def test_colour_does_not_give_the_class_away(self, images: list[Rendered]) -> None:
        colours, classes = [], []
        for image, boxes in images:
            for box in boxes:
                rows = slice(int(box.y), int(box.y + box.h) + 1)
                crop = image[rows, int(box.x) : int(box.x + box.w) + 1]
                colours.append([*crop.reshape(-1, 3).mean(axis=0), *crop.reshape(-1, 3).std(axis=0)])
                classes.append(box.category)
        known, asked = np.array(colours[::2]), np.array(colours[1::2])
        labels, truth = np.array(classes[::2]), np.array(classes[1::2])
        means = np.stack([known[labels == k].mean(axis=0) for k in range(len(NAMES))])
        guess = np.square(asked[:, None] - means).sum(axis=2).argmin(axis=1)
        assert np.mean(guess == truth) < 0.25  # chance is 0.1

    def test_boxes_are_tight_around_the_pixels_an_object_changes(self) -> None:
        class Plain(Draws):
            def chance(self, percent: int) -> bool:
                """No shadow and no low contrast, which would blur what the object itself changes."""
                return super().chance(percent) and False

        for seed in range(30):
            scene = _Scene(Plain(seed), 160, 160)
            before = scene.canvas.copy()
            name = NAMES[seed % len(NAMES)]
            assert scene.add(CLASSES[name](Draws(seed)), 0, 70), name
            changed = np.abs(scene.canvas - before).sum(axis=2) > 24  # an edge pixel may be covered by a sliver only
            ys, xs = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            (box,) = scene.boxes()
            found = (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)
            assert np.abs(np.subtract(found, (box.x, box.y, box.x + box.w, box.y + box.h))).max() <= 2, name

    def test_an_occluded_object_keeps_its_share_and_a_visible_box(self) -> None:
        """Crowd a small canvas: what may cover an object is refused once too little of it would be left."""
        refused = occluded = 0
        for seed in range(12):
            scene = _Scene(Draws(seed), 120, 120)
            shapes = Draws(1000 + seed)
            for k in range(14):
                refused += not scene.add(CLASSES[NAMES[k % len(NAMES)]](shapes), k % len(NAMES), 60)
            boxes = scene.boxes()
            assert len(boxes) == len(scene.placed)
            for number, (_, area, _) in enumerate(scene.placed, start=1):
                rows, cols = np.nonzero(scene.owner == number)
                assert len(rows) * 100 >= area * MIN_VISIBLE
                occluded += len(rows) < area
                box = boxes[number - 1]
                assert (box.x, box.y) == (cols.min() / 4, rows.min() / 4)
                assert (box.w, box.h) == ((np.ptp(cols) + 1) / 4, (np.ptp(rows) + 1) / 4)
        assert refused > 0
        assert occluded > 10

    def test_size_scales_the_scene_and_bad_arguments_are_refused(self) -> None:
        image, boxes = render(3, size=640)
        assert max(image.shape) in {640, 832}
        assert boxes
        with pytest.raises(ValueError, match="size >= 64"):
            render(3, size=32)
        with pytest.raises(ValueError, match="seed >= 0"):
            render(-1)


class TestFillPolygon:
    @pytest.mark.parametrize("seed", range(8))
    def test_agrees_with_a_point_in_polygon_test(self, seed: int) -> None:
        """OpenCV's even-odd test at every sample centre, for random self-crossing polygons partly off the canvas."""
        rng = np.random.default_rng(seed)
        height, width = 24, 31
        contour = rng.integers(-8 * SUBPIXEL, 40 * SUBPIXEL, size=(7, 2))
        mask = fill_polygon([contour], height, width)
        # Only centres further than one unit from an edge: on an edge itself either answer is right.
        for row in range(height):
            for col in range(width):
                centre = (col * SUBPIXEL + SUBPIXEL / 2, row * SUBPIXEL + SUBPIXEL / 2)
                distance = cv2.pointPolygonTest(contour.astype(np.float32), centre, measureDist=True)
                if abs(distance) > 2:
                    assert bool(mask[row, col]) == (distance > 0), (row, col)
        assert 0 < mask.mean() < 1

    def test_a_second_contour_is_a_hole_and_area_is_exact(self) -> None:
        square = np.array([[0, 0], [20, 0], [20, 20], [0, 20]]) * SUBPIXEL
        hole = np.array([[5, 5], [5, 15], [15, 15], [15, 5]]) * SUBPIXEL
        mask = fill_polygon([square, hole], 20, 20)
        assert mask.sum() == 20 * 20 - 10 * 10
        assert mask[10, 10] == 0
        assert mask[2, 2] == 1


class TestPrepare:
    def test_splits_are_disjoint(self, small_set: Path) -> None:
        root = small_set.parent
        stems = {split: {p.stem for p in (root / "images" / split).iterdir()} for split in FEW}
        assert {split: len(names) for split, names in stems.items()} == FEW
        assert not stems["val"] & stems["calib"]
        firsts = sorted(FIRST_SEED.values())
        assert all(b - a >= SPLIT_CAPACITY for a, b in pairwise(firsts))
        digests = [digest for path, digest in contents(root).items() if path.endswith(".png")]
        assert len(set(digests)) == sum(FEW.values())

    def test_png_and_labels_give_back_what_was_rendered(self, small_set: Path) -> None:
        for split in FEW:
            for path in sorted((small_set.parent / "images" / split).iterdir()):
                image, boxes = render(int(path.stem))
                written = cv2.imread(str(path))
                assert written is not None
                assert np.array_equal(written, image)
                lines = (small_set.parent / "labels" / split / f"{path.stem}.txt").read_text().splitlines()
                assert len(lines) == len(boxes)
                for line, box in zip(lines, boxes, strict=True):
                    category, *numbers = line.split()
                    x, y, w, h = np.array(numbers, dtype=float) * np.tile(image.shape[1::-1], 2)
                    assert int(category) == box.category
                    assert (x - w / 2, y - h / 2, w, h) == pytest.approx((box.x, box.y, box.w, box.h), abs=1e-3)

    def test_the_harness_reads_it_and_calibrates_on_other_images(self, small_set: Path) -> None:
        data = load(small_set)
        assert tuple(data.names.values()) == NAMES
        assert [image.path.stem for image in data.images] == [str(FIRST_SEED["val"] + k) for k in range(FEW["val"])]
        assert sorted(path.parent.name for path in data.calibration_images(2)) == ["calib", "calib"]

    def test_a_training_split_replaces_calibration_under_the_train_key(self, tmp_path: Path) -> None:
        path = prepare(tmp_path, ("val", "calib", "train"), counts={"val": 1, "calib": 1, "train": 2})
        assert [p.parent.name for p in load(path, split="train").train_images] == ["train", "train"]

    def test_second_call_renders_nothing(self, small_set: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in small_set.parent.rglob("*")}
        calls: list[tuple[int, int]] = []
        again = prepare(small_set.parents[1], counts=FEW, on_progress=lambda done, total: calls.append((done, total)))
        assert again == small_set
        assert not calls
        assert before == {path: path.stat().st_mtime_ns for path in small_set.parent.rglob("*")}

    def test_progress_counts_every_image_and_workers_change_no_byte(self, small_set: Path, tmp_path: Path) -> None:
        calls: list[tuple[int, int]] = []
        path = prepare(tmp_path, counts=FEW, workers=2, on_progress=lambda done, total: calls.append((done, total)))
        assert calls == [(k + 1, 8) for k in range(8)]
        assert contents(path.parent) == contents(small_set.parent)

    def test_the_finished_set_is_the_rendered_directory_renamed(self, tmp_path: Path) -> None:
        """A copy would be visible half made; a rename keeps the directory's inode."""
        staging: list[tuple[str, int]] = []

        def look(done: int, total: int) -> None:
            if done == total:
                staging.extend((path.name, path.stat().st_ino) for path in tmp_path.iterdir() if path.is_dir())

        path = prepare(tmp_path, counts=FEW, on_progress=look)
        ((name, inode),) = staging
        assert name != path.parent.name
        assert path.parent.stat().st_ino == inode

    def test_an_interrupted_run_leaves_nothing_that_looks_whole(self, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            if done * 2 >= total:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path, counts=FEW, on_progress=stop)
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    def test_after_a_kill_the_next_run_starts_afresh_and_cleans_up(self, small_set: Path, tmp_path: Path) -> None:
        script = (
            "import os, signal, sys; from pathlib import Path; from bench.demo import prepare\n"
            "def die(done, total):\n    if done == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"prepare(Path(sys.argv[1]), counts={FEW!r}, on_progress=die)"
        )
        killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL
        left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
        assert len(left) == 1
        assert left[0].startswith(".demo-")
        path = prepare(tmp_path, counts=FEW)
        assert contents(path.parent) == contents(small_set.parent)
        assert [p for p in tmp_path.iterdir() if p.is_dir()] == [path.parent]

    def test_two_processes_at_once_share_one_result(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "bench.demo", "--cache", str(tmp_path), "--val", "6", "--calib", "2"]
        runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        answers = {run.communicate(timeout=60)[0].strip() for run in runs}
        assert [run.returncode for run in runs] == [0, 0]
        (path,) = answers
        assert len(load(Path(path)).images) == 6
        assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1

    def test_a_moved_cache_gets_its_path_corrected(self, tmp_path: Path) -> None:
        counts = {"val": 1, "calib": 1}
        prepare(tmp_path / "here", counts=counts)
        (tmp_path / "here").rename(tmp_path / "there")
        path = prepare(tmp_path / "there", counts=counts)
        assert load(path).images[0].path.is_relative_to(tmp_path / "there")

    def test_wrong_input_is_a_usage_error_that_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="val and calib"):
            prepare(tmp_path, ("val", "test"))
        with pytest.raises(UsageError, match="takes 1 to"):
            prepare(tmp_path, counts={"val": 0})
        occupied = tmp_path / "file"
        occupied.write_text("")
        with pytest.raises(UsageError, match="choose another cache"):
            prepare(occupied, counts={"val": 1, "calib": 1})

    def test_the_command_line_reports_a_usage_error_with_code_2(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "bench.demo", "--cache", str(tmp_path), "--val", "0"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "takes 1 to" in done.stderr


def test_training_nothing_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    for epochs, images in ((0, 10), (1, 0)):
        with pytest.raises(UsageError, match="at least 1 epoch and 1 image"):
            training.run(tmp_path, epochs, images, "cpu", tmp_path)
    assert not list(tmp_path.iterdir())


class TestCheckpoint:
    """The committed model and what is said about it belong together."""

    def test_the_file_is_the_trained_one_and_small(self, facts: dict[str, object]) -> None:
        content = CHECKPOINT.read_bytes()
        assert len(content) <= 6_000_000
        assert hashlib.sha256(content).hexdigest() == facts["checkpoint_sha256"]

    def test_it_was_trained_on_this_generator_at_full_evaluation_size(self, facts: dict[str, object]) -> None:
        data = facts["data"]
        assert isinstance(data, dict)
        assert data["name"] == TRAINED_ON
        assert TRAINED_ON.startswith(f"demo-v{GENERATOR_VERSION}-")
        assert {split: data["images"][split] for split in ("val", "calib")} == {
            split: DEFAULT_COUNTS[split] for split in ("val", "calib")
        }

    def test_the_curve_has_every_epoch_and_ends_where_the_facts_say(self, facts: dict[str, object]) -> None:
        with CHECKPOINT.with_name("training.csv").open(newline="", encoding="utf-8") as source:
            rows = list(csv.DictReader(source))
        assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
        assert len(rows) == facts["epochs"]
        last = facts["last_epoch"]
        assert isinstance(last, dict)
        assert float(rows[-1]["map50_95"]) == pytest.approx(last["map50_95"], abs=1e-4)
        assert 0.55 <= float(rows[-1]["map50_95"]) <= 0.90  # neither saturated nor hopeless
        assert float(rows[-1]["train_cls_loss"]) < 0.5 * float(rows[0]["train_cls_loss"])

    def test_it_holds_no_path_of_the_training_machine(self) -> None:
        content = CHECKPOINT.read_bytes()
        for trace in (b"/tmp/", b"/home/", b"/root/", b"demo-train-", b"site-packages"):
            assert trace not in content

"""Reading Ultralytics data files: what is accepted, and what a person is told when it is not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from bench.reasons import UsageError
from bench.tasks.dataset import Dataset, evenly_spaced
from bench.tasks.detect.labels import read_labels
from bench.tasks.detect.task import load
from bench.tasks.images import image_size, label_path, read_image

BOX_ROW = "0 0.5 0.5 0.25 0.5\n"


def write_image(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    gradient = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    PillowImage.fromarray(gradient).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three validation images (one labelled, one with an empty label file, one without any) and five for training."""
    for name in ("b", "a", "sub/c"):
        write_image(tmp_path / f"images/val/{name}.png")
    for index in range(5):
        write_image(tmp_path / f"images/train/{index}.jpg")
    labels = tmp_path / "labels/val"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text(BOX_ROW + "1 0.1 0.2 0.1 0.2\n" + BOX_ROW)
    (labels / "b.txt").write_text("")
    return tmp_path


def data_file(root: Path, text: str = "train: images/train\nval: images/val\nnames: [cat, dog]\n") -> Path:
    path = root / "set.yaml"
    path.write_text(text)
    return path


def test_a_plain_set(root: Path) -> None:
    dataset = load(data_file(root))
    assert (dataset.name, dataset.split, dataset.names) == ("set", "val", {0: "cat", 1: "dog"})
    assert [image.path.relative_to(root).as_posix() for image in dataset.images] == [
        "images/val/a.png",
        "images/val/b.png",
        "images/val/sub/c.png",
    ]
    assert [(image.id, image.width, image.height) for image in dataset.images] == [
        (0, 40, 20),
        (1, 40, 20),
        (2, 40, 20),
    ]
    # The repeated row is dropped; 0.5 0.5 0.25 0.5 of a 40 x 20 image is a box of 10 x 10 px at (15, 5).
    assert dataset.boxes.tolist() == [
        (0, 0, 15.0, 5.0, 10.0, 10.0, 100.0, False),
        (0, 1, 2.0, 2.0, 4.0, 4.0, 16.0, False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n",
        "train: images/train\nval: [images/val, images/val/sub]\nnames: [cat, dog]\nnc: 2\n",
        "train: ../images/train\nval: ../images/val\nnames: [cat, dog]\n",
        "train: images/train\nvalidation: images/val\nnames: {'0': cat, '1': dog}\n",
        "train: images/train\nval: lists/val.txt\nnames: [cat, dog]\n",
        "train: images/train\nval: [lists/val.txt, images/val]\nnames: [cat, dog]\n",
        "download: exit(1)\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n",
    ],
)
def test_every_way_to_name_the_same_images_gives_the_same_set(root: Path, text: str) -> None:
    (root / "lists").mkdir()
    (root / "lists/val.txt").write_text(f"./../images/val/b.png\n{root}/images/val/a.png\n../images/val/sub/c.png\n\n")
    expected = load(data_file(root))
    dataset = load(data_file(root, text))
    assert [image.path for image in dataset.images] == [image.path for image in expected.images]
    assert dataset.sha256 == expected.sha256
    assert len(dataset.train_images) == 5


def test_the_path_key_points_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("yaml")
    text = f"path: {root}\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
    assert load(data_file(elsewhere, text)).sha256 == load(data_file(root)).sha256


def test_hidden_files_and_other_suffixes_are_no_images(root: Path) -> None:
    (root / "images/val/._a.png").write_bytes(b"not an image")
    write_image(root / "images/val/.trash/d.png")
    (root / "images/val/readme.txt").write_text("hello")
    assert len(load(data_file(root)).images) == 3


def test_names_default_to_numbers_and_repeated_ones_are_told_apart(root: Path) -> None:
    for count in ("2", "'2'", '" 2"'):
        assert load(data_file(root, f"val: images/val\nnc: {count}\n")).names == {0: "class_0", 1: "class_1"}
    names = load(data_file(root, "val: images/val\nnames: [cat, dog, cat]\n")).names
    assert names == {0: "cat (0)", 1: "dog", 2: "cat (2)"}


def test_the_hash_follows_labels_names_and_images_but_not_the_place(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = load(data_file(root)).sha256
    moved = tmp_path_factory.mktemp("moved") / "set"
    assert load(data_file(root.rename(moved))).sha256 == before
    assert load(data_file(moved, "val: images/val\nnames: [cat, cow]\n")).sha256 != before
    assert load(data_file(moved), limit=2).sha256 != before
    (moved / "labels/val/b.txt").write_text(BOX_ROW)
    assert load(data_file(moved)).sha256 != before


@pytest.mark.parametrize(
    ("count", "n", "expected"), [(10, 5, (0, 2, 4, 6, 8)), (10, 3, (0, 3, 6)), (3, 3, (0, 1, 2)), (3, 9, (0, 1, 2))]
)
def test_evenly_spaced(count: int, n: int, expected: tuple[int, ...]) -> None:
    assert evenly_spaced(range(count), n) == expected


def test_limit_and_calibration_are_spaced_over_the_sorted_list(root: Path) -> None:
    dataset = load(data_file(root), limit=2)
    assert [(image.id, image.path.name) for image in dataset.images] == [(0, "a.png"), (1, "b.png")]
    calibration = dataset.calibration_images(2)
    assert [path.name for path in calibration] == ["0.jpg", "2.jpg"]
    assert len(dataset.calibration_images(99)) == 5
    assert dataset.evaluated_too(calibration) == 0
    same = load(data_file(root, "train: images/val\nval: images/val\nnames: [cat, dog]\n"), limit=2)
    assert same.evaluated_too(same.calibration_images(3)) == 2


def test_a_subset_keeps_ids_and_the_objects_of_its_images(root: Path) -> None:
    whole = load(data_file(root))
    part = whole.subset(1)
    assert part.images == whole.images[:1]
    assert set(part.boxes["image_id"]) <= {whole.images[0].id}
    assert len(part.boxes) == (whole.boxes["image_id"] == whole.images[0].id).sum()
    assert whole.subset(1000).images == whole.images
    assert len(whole.subset(1000).boxes) == len(whole.boxes)


@pytest.mark.parametrize("limit", [0, -3])
def test_limits_below_one_are_refused(root: Path, limit: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        load(data_file(root), limit=limit)
    with pytest.raises(UsageError, match="at least 1"):
        load(data_file(root)).calibration_images(limit)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_whatever_their_file_turns_them_by(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Orientations 5 to 8 are those with a quarter turn (EXIF 2.32); Pillow writes an AVIF's as its properties."""
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:12, :12] = 255  # one white corner, so that no turned or mirrored picture is like another
    exif = PillowImage.Exif()
    exif[274] = orientation
    path = tmp_path / f"image.{suffix}"
    PillowImage.fromarray(pixels).save(path, exif=exif)
    assert image_size(path) == ((24, 48) if orientation >= 5 else (48, 24))
    with PillowImage.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]
    # A corner elsewhere is a mean difference of 255 on two times 144 of 1152 pixels, 64; lossy decoders' is below 4.
    assert np.abs(read_image(path).astype(int) - upright).mean() < 4


def test_a_polygon_becomes_its_box(tmp_path: Path) -> None:
    label = tmp_path / "a.txt"
    label.write_text("1 0.2 0.1 0.6 0.3 0.4 0.9\n\n1 0.2 0.1 0.6 0.3 0.4 0.9\n1 0.2 0.1 0.6 0.9 0.4 0.5\n")
    # The exact repeat is dropped; another polygon with the same box is another object.
    rows = read_labels(label, 2).rows
    assert rows.shape == (2, 5)
    assert np.allclose(rows, [1, 0.4, 0.5, 0.4, 0.8])


def test_boxes_may_stick_out_a_little_and_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    label = tmp_path / "a.txt"
    label.write_bytes(b"\xef\xbb\xbf0 1.005 -0.005 0.1 0\r\n")
    assert read_labels(label, 1).rows.tolist() == [[0, 1.005, -0.005, 0.1, 0]]


def test_label_files_lie_beside_the_last_images_folder() -> None:
    assert label_path(Path("/a/images/b/images/c/d.e.jpg")) == Path("/a/images/b/labels/c/d.e.txt")
    assert label_path(Path("/a/pictures/d.jpg")) == Path("/a/pictures/d.txt")


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ([BOX_ROW, "2 0.5 0.5 0.1 0.1"], 2, "class 2 is not one of 0 to 1"),
        ([BOX_ROW, "", "-1 0.5 0.5 0.1 0.1"], 3, "class -1 is not one of"),
        (["0.5 0.5 0.5 0.1 0.1"], 1, "class 0.5 is not one of"),
        ([BOX_ROW, "0 20 30 10 10"], 2, "out of range"),
        (["0 0.5 0.5 -0.001 0.1"], 1, "out of range"),
        (["0 -0.02 0.5 0.1 0.1"], 1, "out of range"),
        (["0 0.5 0.5 0.1"], 1, "4 columns"),
        ([BOX_ROW, "0 0.5 0.5 0.1 0.1 0.9"], 2, "6 columns"),
        ([BOX_ROW, "0 0.5 0.5 0.1 wide"], 2, "could not convert"),
        ([BOX_ROW, "0 0.5 nan 0.1 0.1"], 2, "NaN or infinity"),
        (["0 0.1 0.1 0.2 0.2 0.3 0.3", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"], 2, "8 columns in a file of polygons"),
        (["0 0.1 0.1 0.2 0.2 0.3 0.3", BOX_ROW], 2, "5 columns in a file of polygons"),
    ],
)
def test_a_bad_label_row_is_named(root: Path, rows: list[str], line: int, message: str) -> None:
    label = root / "labels/val/b.txt"
    label.write_text("\n".join(row.strip() for row in rows))
    with pytest.raises(UsageError, match=message) as error:
        load(data_file(root))
    assert str(error.value).startswith(f"{label}, line {line}: ")


def remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def overwrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def nothing(root: Path) -> None:
    """Leave the set as it is."""


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        (None, remove("set.yaml"), "cannot read the data file .*set.yaml: No such file"),
        (None, overwrite("set.yaml", b"\xff\xfe\x00"), "cannot read the data file"),
        ("val: [\n", nothing, "set.yaml, line 2 is not valid YAML"),
        ("- a\n- b\n", nothing, "does not hold keys"),
        ("", nothing, "does not hold keys"),
        ("train: images/train\nnames: [a, b]\n", nothing, "no 'val:' key"),
        ("val: images/val\n", nothing, "neither 'names' nor 'nc'"),
        ("val: images/val\nnames: cat\n", nothing, "line 2: 'names' must be a list"),
        ("val: images/val\nnames: []\n", nothing, "line 2: 'names' must be a list"),
        ("val: images/val\nnames: {a: cat}\n", nothing, "line 2: the keys of 'names' must be class indices"),
        ("val: images/val\nnames: {1: cat, 2: dog}\n", nothing, "need the indices 0 to 1, not 1, 2"),
        ("val: images/val\nnames: [a, b]\nnc: 3\n", nothing, "line 3: 'nc: 3' but 'names' has 2"),
        ("val: images/val\nnc: many\n", nothing, "line 2: 'nc' must be a whole number"),
        ("# top\npath: nowhere\nval: a\nnc: 1\n", nothing, "line 2: 'path: nowhere' names the folder .*nowhere, which"),
        ("path: nowhere\nval: a\nnc: 1\ndownload: x\n", nothing, "'download:' is never executed"),
        ("path: [a]\nval: a\nnc: 1\n", nothing, "line 1: 'path' must be a folder name"),
        ("names: [a, b]\nval: images/vall\n", nothing, "line 2: 'val: images/vall' leads to .*vall, which does not"),
        ("names: [a, b]\nval: [3]\n", nothing, "line 2: 'val' must be a path or a list"),
        ("names: [a, b]\nval: labels\n", nothing, "line 2: no images in labels; known suffixes"),
        ("names: [a, b]\nval: list.txt\n", overwrite("list.txt", b"\n./images/x.png\n"), "list.txt, line 2: the image"),
        ("names: [a, b]\nval: images/val/a.png\n", nothing, "cannot read the list of images .*a.png"),
        (None, overwrite("images/val/b.png", b"rubbish"), "OpenCV cannot decode .*b.png; convert it"),
        (None, overwrite("labels/val/b.txt", b"\xff\xfe\x00"), "cannot read the label file .*b.txt"),
    ],
)
def test_what_a_person_is_told(root: Path, text: str | None, change: Callable[[Path], object], message: str) -> None:
    path = data_file(root) if text is None else data_file(root, text)
    change(root)
    with pytest.raises(UsageError, match=r"(?s)" + message):
        load(path)


def test_a_missing_train_split_is_told_when_calibration_needs_it(root: Path) -> None:
    dataset: Dataset = load(data_file(root, "val: images/val\nnames: [cat, dog]\n"))
    with pytest.raises(UsageError, match="no 'train:' key"):
        dataset.calibration_images(1)


def test_images_too_small_or_not_decodable_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="9 x 40 px"):
        image_size(write_image(tmp_path / "thin.png", 9, 40))
    with pytest.raises(UsageError, match=r"gone.png: No such file"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UsageError, match="OpenCV cannot decode"):
        read_image(tmp_path / "empty.png")


def bitmap_header(path: Path, width: int, height: int) -> Path:
    """The first 54 bytes of a bitmap of that size: all that is read before its pixels are wanted."""
    file = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    path.write_bytes(file + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0))
    return path


def test_an_image_larger_than_opencv_reads_is_told(tmp_path: Path) -> None:
    """It reads up to 2**30 px, and raises an error of its own beyond."""
    with pytest.raises(UsageError, match=r"cannot decode .*b\.bmp.*split"):
        read_image(bitmap_header(tmp_path / "b.bmp", 40_000, 30_000))


def test_pixels_come_as_opencv_reads_them(tmp_path: Path) -> None:
    path = write_image(tmp_path / "é.png")
    expected = cv2.imread(str(path))
    assert expected is not None
    assert np.array_equal(read_image(path), expected)

"""Ultralytics' own data files and habits work here, or one line says why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from sets import BOX, data_file, fill, label, load_set, picture, problems_of

from bench.environments.locked import Environments
from bench.reasons import UsageError
from bench.tasks.datafile import DataFile, datasets_folder, locate
from bench.tasks.detect.task import load
from bench.wall.datasets import brought


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of data sets of a user's Ultralytics: not that of the machine that the tests run on."""
    folder = tmp_path_factory.mktemp("datasets")
    home = tmp_path_factory.mktemp("home")
    (home / "Ultralytics").mkdir()
    (home / "Ultralytics/settings.json").write_text(json.dumps({"datasets_dir": str(folder), "sync": True}))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(home))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "set")


def named(folder: Path, text: str) -> Path:
    path = folder / "data.yaml"
    path.write_text(f"{text}val: images/val\nnames: [cat, dog]\n")
    return path


# -- where the images are --------------------------------------------------------------------------------------------


def test_a_path_is_that_beside_the_data_file_before_any_other(
    root: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics takes the current folder's first; the same file would then be another set elsewhere."""
    monkeypatch.chdir(fill(settings / "set").parent)
    data = load(named(root.parent, "path: set\n"))
    assert data.images[0].path == root / "images/val/a.png"
    assert data.notes == ()


def test_a_path_that_is_not_there_is_that_of_the_current_folder(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    data = load(named(tmp_path_factory.mktemp("elsewhere"), "path: set\n"))
    assert data.images[0].path == root / "images/val/a.png"
    assert [(one.name, "from the current folder" in one.text) for one in data.remarks] == [("path_elsewhere", True)]


@pytest.mark.parametrize("given", ["coco8", "../datasets/coco8", "./coco8"])
def test_a_path_that_is_nowhere_else_is_that_of_ultralytics_folder(settings: Path, tmp_path: Path, given: str) -> None:
    """As its own data files have it, whose `path` is a name; older ones wrote ../datasets/ before it."""
    fill(settings.parent / "datasets" / "coco8" if given.startswith("../datasets") else settings / "coco8")
    (tmp_path / "deep/deeper").mkdir(parents=True)
    text = f"path: {given}\ndownload: https://example.com/coco8.zip\n"
    data = load(named(tmp_path / "deep/deeper", text))
    assert len(data.images) == 2
    assert "Ultralytics' settings" in data.remarks[0].text


def test_a_path_that_is_nowhere_names_every_folder_that_was_looked_at(settings: Path, tmp_path: Path) -> None:
    (problem,) = problems_of(named(tmp_path, "path: coco8\ndownload: https://example.com/coco8.zip\n"))
    assert problem.startswith(
        f"{tmp_path / 'data.yaml'}, line 1: 'path: coco8' names the folder {tmp_path / 'coco8'}, "
    )
    assert f"nor does {settings / 'coco8'}" in problem
    assert "'download:' is never executed" in problem


@pytest.mark.parametrize("content", ["", "{", "[]", '{"datasets_dir": 3}', '{"sync": true}'])
def test_settings_that_say_nothing_are_none(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Ultralytics").mkdir()
    (tmp_path / "Ultralytics/settings.json").write_text(content)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    assert datasets_folder() is None


# -- which file is meant ---------------------------------------------------------------------------------------------


def test_a_folder_stands_for_the_data_file_in_it(root: Path) -> None:
    """The rules of `find_dataset_yaml`: .yaml before .yml, near before deep, and the folder's own name decides."""
    (root / "deep").mkdir()
    deep = data_file(root / "deep")
    assert locate(str(root)) == deep
    (root / "near.yml").touch()
    assert locate(str(root)) == deep
    near = root / "near.yaml"
    near.touch()
    assert locate(str(root)) == near
    (root / "set.yaml").touch()
    assert locate(str(root)) == root / "set.yaml"
    (root / "set.yaml").rename(root / "other.yaml")
    with pytest.raises(UsageError, match=r"holds 2 data files \(near\.yaml, other\.yaml\); give the path of the one"):
        locate(str(root))
    with pytest.raises(UsageError, match="holds no data file"):
        locate(str(root / "images"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://example.com/coco8.zip", "no data is fetched here; download it"),
        ("ul://glenn/datasets/mine", "no data is fetched here"),
        ("coco8.zip", "unpack it, and give the path of the data file"),
        ("sets/coco8.tar.gz", "unpack it"),
        ("coco8.ndjson", "`convert_ndjson_to_yolo` of ultralytics"),
        ("~no_such_user_here/data.yaml", "write the path in full"),
    ],
)
def test_what_ultralytics_would_fetch_or_convert_is_told(given: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        locate(given)
    assert str(error.value).startswith(f"--data {given}: ")
    assert words in str(error.value)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
@pytest.mark.parametrize("name", ["coco8.yaml", "coco8"])
def test_a_data_file_that_ultralytics_brings_is_meant_by_its_name(
    name: str, settings: Path, environments: Environments
) -> None:
    path = brought(name, environments)
    (problem,) = problems_of(path)
    assert "'path: coco8' names the folder" in problem
    for split in ("val", "train"):
        picture(settings / f"coco8/images/{split}/a.png")
    label(settings / "coco8", "a", BOX)
    data = load(path)
    assert (data.name, len(data.names), data.names[0], data.names[79]) == ("coco8", 80, "person", "toothbrush")
    assert [image.path for image in data.images] == [settings / "coco8/images/val/a.png"]
    assert data.calibration_images(5) == (settings / "coco8/images/train/a.png",)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")
def test_a_name_that_ultralytics_does_not_bring_is_told_with_the_nearest(environments: Environments) -> None:
    with pytest.raises(UsageError, match=r"coco128-seq: no such file here, .* \(did you mean coco128-seg\?\)"):
        brought("coco128-seq", environments)


# -- what stands in it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["2", "2.0", "'2'", "'2.0'", "2e0"])
def test_a_number_of_classes_is_one_however_it_is_written(root: Path, count: str) -> None:
    """As in Ultralytics 8.4.190, which takes whatever is a whole number when it is read as one."""
    assert load_set(root, f"nc: {count}\nval: images/val\n").names == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("count", ["1.9", "many", "true", "[2]", ".inf", "0", "-2"])
def test_what_is_no_number_of_classes_is_told(root: Path, count: str) -> None:
    (problem,) = problems_of(data_file(root, f"nc: {count}\nval: images/val\n"))
    assert problem.startswith(f"{root / 'set.yaml'}, line 1: 'nc' must be a whole number of classes, ")


def test_python_s_word_for_nothing_is_nothing(root: Path) -> None:
    assert len(load_set(root, "path: None\nnc: None\ntest: None\nval: images/val\n").images) == 2


def test_names_are_those_of_their_indices_in_whatever_order_they_stand(root: Path) -> None:
    (root / "set.yaml").write_text("val: images/val\nnames:\n  1: dog\n  0: cat\n")
    assert list(load(root / "set.yaml").names.items()) == [(0, "cat"), (1, "dog")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val: images/val\nval2: [\n", r"data\.yaml, line 4 is not valid YAML"),
        ("when: 2026-13-01\n", "is not valid YAML: month must be in"),
        ("a: " + "[" * 5000 + "\n", "is not valid YAML"),
        (
            "a: !!python/object/apply:os.system [exit 1]\n",
            "line 1 is not valid YAML: could not determine a constructor",
        ),
        ('train: "a\\0b"\nval: "a\\0b"\n', "holds a NUL or half a character"),
        ('val: .\nnames: ["a\\0b", c]\n', r"data\.yaml, line 2: .* holds a NUL"),
    ],
)
def test_what_no_data_file_says_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(f"{text}nc: 2\n" if "val:" in text else f"{text}val: .\nnc: 2\n")
    with pytest.raises(UsageError, match=words):
        load(path)


def test_a_data_file_in_another_encoding_is_told_to_be(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes("names: [猫, 狗]\n".encode("gbk"))
    with pytest.raises(UsageError, match=r"cannot read the data file .*data\.yaml: .* save it as UTF-8 text"):
        DataFile.read(path)


def test_several_entries_lists_and_folders_are_one_split(root: Path) -> None:
    """A folder, a list with a line that leads to a link, and the folder again under a link: each image once."""
    (root / "lists").mkdir()
    (root / "lists/more.txt").write_bytes(b"\xef\xbb\xbf./../images/more/c.png\r\n\r\n../alias.png\r\n")
    picture(root / "images/more/c.png")
    (root / "linked").symlink_to(root / "images/val")
    (root / "alias.png").symlink_to(root / "images/val/a.png")
    data = load_set(root, f"val: [images/val, lists/more.txt, {root}/images/more, linked]\n")
    assert [image.path.name for image in data.images] == ["c.png", "a.png", "b.png"]
    assert {one.name: one.count for one in data.remarks} == {"further_names": 1, "no_label_file": 1}


def test_lines_as_windows_writes_paths_are_told_as_such(root: Path) -> None:
    (root / "list.txt").write_text("images\\val\\a.png\nimages\\val\\z.png\n")
    first, second = problems_of(data_file(root, "val: list.txt\n"))
    assert "line 1: 'images\\\\val\\\\a.png' is written as Windows writes paths" in first
    assert "line 2: the image" in second

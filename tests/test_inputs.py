"""What a data set says is what is evaluated: nothing is guessed from shapes or names, nothing is left out silently."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from report_fixture import write_run
from rich.console import Console
from running import USERS_CACHE, bench
from sets import BOX, IN_PX, SIZE, fill, label, load_set, picture

from bench import demo, report, store
from bench.reasons import Collector, Problems, UsageError
from bench.tasks.detect.task import load
from bench.tasks.images import files_below
from bench.wall.checkpoint import Checkpoint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.fixture
def others_root() -> Iterator[Path]:
    """Such a set where every user may look."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield fill(Path(folder))


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whom permissions bind: root may read whatever they say."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


# -- what label rows are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (17, 3), (2, 2), (1, 2)])
def test_keypoints_behind_a_box_leave_the_box(root: Path, shape: tuple[int, int]) -> None:
    """17, 56, 9 and 7 columns: of a file without `kpt_shape`, three of them would be polygons."""
    plain = load_set(root)
    count, values = shape
    label(root, "a", f"{BOX} {' '.join(['0.9 0.1 2'[: 4 * values - 1]] * count)}\n")
    data = load_set(root, f"val: images/val\nkpt_shape: [{count}, {values}]\n")
    assert data.boxes.tolist() == plain.boxes.tolist() == [IN_PX, (1, *IN_PX[1:])]
    assert data.sha256 == plain.sha256
    assert data.notes == ()


def test_objects_with_one_box_and_other_keypoints_are_one_object(root: Path) -> None:
    """As in Ultralytics 8.4.190, which cuts the keypoints off before it drops repeated rows."""
    label(root, "a", f"{BOX} 0.1 0.1\n{BOX} 0.2 0.2\n")
    assert len(load_set(root, "val: images/val\nkpt_shape: [1, 2]\n").boxes) == 2


def test_a_row_of_other_columns_than_the_data_file_states_is_named(root: Path) -> None:
    path = label(root, "b", f"{BOX}\n0 0.1 0.1 0.2 0.2 0.3 0.3\n")
    with pytest.raises(UsageError, match=r"line 2: 7 columns where 'kpt_shape' .* asks for 17") as error:
        load_set(root, "val: images/val\nkpt_shape: [4, 3]\n")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[0, 3]", "[a, 3]", "[true, 3]", "{points: 17}"])
def test_a_wrong_shape_of_keypoints_is_named(root: Path, shape: str) -> None:
    with pytest.raises(UsageError, match=r"set.yaml, line 2: 'kpt_shape' must be \[number of keypoints, 2 or 3\]"):
        load_set(root, f"val: images/val\nkpt_shape: {shape}\n")


def test_turned_boxes_become_upright_ones_with_a_word(root: Path) -> None:
    """A square on its corner reaches as far as its corners do: 0.25 to 0.75 of both sides."""
    label(root, "a", "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")
    data = load_set(root)
    assert data.boxes.tolist()[0] == (0, 0, 10.0, 5.0, 20.0, 10.0, 200.0, False)
    assert len(data.notes) == 1
    assert data.notes[0].startswith("1 of 2 label files hold polygons or turned boxes")


def test_images_of_another_number_of_channels_are_refused(root: Path) -> None:
    assert len(load_set(root, "val: images/val\nchannels: 3\n").images) == 2
    with pytest.raises(UsageError, match=r"line 2: 'channels: 1', but images are evaluated in 3 channels"):
        load_set(root, "val: images/val\nchannels: 1\n")


# -- which files are one ---------------------------------------------------------------------------------------------


def test_a_link_that_leads_round_in_a_circle_adds_no_image(root: Path) -> None:
    before = load_set(root)
    for name in ("0", "val", "z"):  # several links: without an end they would be followed in every order
        (root / f"images/val/{name}").symlink_to(root / "images/val")
    after = load_set(root)
    assert [image.path for image in after.images] == [image.path for image in before.images]
    assert after.sha256 == before.sha256


def test_a_folder_that_a_link_leads_to_is_searched(root: Path) -> None:
    picture(root / "elsewhere/c.png")
    (root / "images/val/0").symlink_to(root / "elsewhere")
    assert [image.path.name for image in load_set(root).images] == ["c.png", "a.png", "b.png"]


def test_a_real_folder_goes_before_a_link_to_it(root: Path) -> None:
    """Labels lie beside the real one."""
    picture(root / "images/val/deep/folder/c.png")
    (root / "images/val/0").symlink_to(root / "images/val/deep/folder")
    assert files_below(root / "images/val", Collector())[-1] == root / "images/val/deep/folder/c.png"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_image_of_two_names_counts_once_under_the_labelled(root: Path, link: Callable[[Path, Path], None]) -> None:
    before = load_set(root)
    link(root / "images/val/a.png", root / "images/val/0.png")
    after = load_set(root)
    assert after.sha256 == before.sha256
    assert after.notes == ("Further names (links) in val of images that are counted already: 1.",)
    label(root, "0", BOX)  # labels that agree say nothing against it
    assert len(load_set(root).images) == 2


def test_a_link_to_a_link_and_a_folder_named_twice_add_no_image(root: Path) -> None:
    before = load_set(root)
    (root / "once.png").symlink_to(root / "images/val/a.png")
    (root / "images/val/0.png").symlink_to(root / "once.png")
    (root / "again").symlink_to(root / "images")
    after = load_set(root, "val: [images/val, ./images/../images/val, again/val]\n")
    assert after.sha256 == before.sha256
    assert after.counts.images == 2


def test_two_names_of_one_image_with_other_labels_are_an_error(root: Path) -> None:
    os.link(root / "images/val/a.png", root / "images/val/0.png")
    label(root, "0", "0 0.5 0.5 0.1 0.1")
    with pytest.raises(UsageError, match=r"0\.png and .*a\.png are one file, but their label files differ"):
        load_set(root)


def test_equal_files_that_are_two_are_two(root: Path) -> None:
    (root / "images/val/c.png").write_bytes((root / "images/val/a.png").read_bytes())
    data = load_set(root)
    assert len(data.images) == 3
    assert data.notes[0] == "1 of 3 images are copies of others in the split, and each counts."


def test_an_image_that_calibrates_under_another_name_is_evaluated_too(root: Path) -> None:
    (root / "images/train").symlink_to(root / "images/val")
    (root / "images/hard").mkdir()
    os.link(root / "images/val/a.png", root / "images/hard/x.png")
    data = load_set(root, "train: images/hard\nval: images/val\n")
    assert data.evaluated_too(data.calibration_images(5)) == 1
    linked = load_set(root, "train: images/train\nval: images/val\n")
    assert linked.evaluated_too(linked.calibration_images(5)) == 2


# -- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["images/val/b.png,", "images/val/b.png 1 2 3", '"images/val/b.png"', "b.png?v=2"])
def test_an_untidy_line_of_a_list_is_named(root: Path, line: str) -> None:
    (root / "list.txt").write_text(f"images/val/a.png\n\n{line}\n{line}\n")
    with pytest.raises(Problems) as error:
        load_set(root, "val: list.txt\n")
    starts = [f"{root / 'list.txt'}, line {number}: {line!r} does not end as an image does" for number in (3, 4)]
    assert [text.startswith(start) for text, start in zip(error.value.found, starts, strict=True)] == [True, True]


@pytest.mark.skipif(os.name != "posix", reason="permissions of folders are POSIX")
@pytest.mark.parametrize("closed", ["images/val/closed", "labels/val"])
def test_what_may_not_be_read_is_named_not_passed_over(others_root: Path, closed: str) -> None:
    picture(others_root / "images/val/closed/c.png")
    assert len(load_set(others_root).images) == 3
    (others_root / closed).chmod(0)
    try:
        with as_nobody(), pytest.raises(UsageError, match=rf"cannot read .*{closed}.*: Permission denied"):
            load(others_root / "set.yaml")
    finally:
        (others_root / closed).chmod(0o755)


def test_pictures_of_other_kinds_are_counted(root: Path) -> None:
    for name in ("c.gif", "d.gif", "e.JFIF", "readme.md"):
        (root / f"images/val/{name}").touch()
    told = "Pictures in val of kinds that Ultralytics does not read are left out: 2 .gif, 1 .jfif."
    assert load_set(root).notes == (told,)


def test_images_without_labels_are_counted_with_the_place_that_was_looked_at(root: Path) -> None:
    (root / "labels/val/b.txt").rename(root / "labels/val/b.TXT")
    picture(root / "images/val/c.png")
    label(root, "a", "")  # an empty file is how one says that there is no object
    told = "2 of 3 images have no label file and count as images without objects (the first would be labels/val/b.txt)."
    none = "None of the 3 images has an object, so there is no mAP to compute."
    assert load_set(root).notes == (told, none)


def test_a_label_file_that_is_there_but_cannot_be_read_is_an_error(root: Path) -> None:
    (root / "labels/val/a.txt").unlink()
    (root / "labels/val/a.txt").symlink_to(root / "gone.txt")
    with pytest.raises(UsageError, match=r"label file .*a\.txt is a link that leads nowhere"):
        load_set(root)
    (root / "labels/val/a.txt").unlink()
    (root / "labels/val/a.txt").mkdir()
    with pytest.raises(UsageError, match=r"cannot read the label file .*a\.txt: Is a directory"):
        load_set(root)


def test_labels_in_a_folder_of_another_name_are_missed_by_name(root: Path) -> None:
    """On a file system that tells Labels from labels, Ultralytics would take every image for background."""
    (root / "labels").rename(root / "Labels")
    if (root / "labels").exists():
        pytest.skip("this file system does not tell them apart")
    data = load_set(root)
    assert len(data.boxes) == 0
    assert [(one.name, one.count) for one in data.remarks] == [("no_label_file", 2), ("no_objects", 2)]


def test_an_image_that_is_a_link_to_nowhere_is_named(root: Path) -> None:
    (root / "images/val/c.png").symlink_to(root / "gone.png")
    with pytest.raises(UsageError, match=r"cannot read .*c\.png: No such file or directory; restore it"):
        load_set(root)


def test_a_line_of_a_list_that_names_a_folder_is_named(root: Path) -> None:
    """Ultralytics passes over it, and the images in it are missing from the score."""
    (root / "list.txt").write_text("images/val/a.png\nimages/val\n")
    with pytest.raises(UsageError, match=r"list\.txt, line 2: 'images/val' does not end as an image does"):
        load_set(root, "val: list.txt\n")


# -- images that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [2, 100, 1000])
def test_a_cut_jpeg_is_named_before_anything_is_measured(root: Path, lost: int) -> None:
    path = root / "images/val/c.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)  # so that most of the file is pixels
    PillowImage.fromarray(noise).save(path)
    assert len(load_set(root).images) == 3
    path.write_bytes(path.read_bytes()[:-lost])  # 2 bytes are the end marker alone
    with pytest.raises(UsageError, match=r"OpenCV cannot decode .*c\.jpg"):
        load_set(root)


def test_values_that_are_no_brightness_are_named(root: Path) -> None:
    PillowImage.fromarray(np.full((20, 20), 0.5, np.float32)).save(root / "images/val/c.tif")
    with pytest.raises(UsageError, match=r"c\.tif"):
        load_set(root)


def test_an_image_that_changes_under_a_run_is_named(root: Path) -> None:
    image = load_set(root).images[0]
    assert image.pixels().shape == (SIZE[1], SIZE[0], 3)
    PillowImage.new("RGB", (30, 20)).save(image.path)
    with pytest.raises(UsageError, match=r"a\.png was 40 x 20 px when the data set was read and is now 30 x 20"):
        image.pixels()


# -- the model's classes and the data file's -------------------------------------------------------------------------


def model(*names: str, stride: int = 32) -> Checkpoint:
    return Checkpoint(Path("best.pt"), "best", "", dict(enumerate(names)), stride)


def test_the_names_in_another_order_are_an_error() -> None:
    with pytest.raises(UsageError) as error:
        model("dog", "cat", "ant").require_classes({0: "ant", 1: "Cat", 2: "dog"}, Path("data.yaml"))
    assert "data.yaml names classes of best.pt in another order: 'dog' is class 0 of the model" in str(error.value)
    assert "class 2 of the data file, and 2 of 3 are elsewhere" in str(error.value)


def test_a_name_at_another_index_is_an_error_even_beside_new_names() -> None:
    with pytest.raises(UsageError, match="at other indices: 'dog' is class 0 of the model and class 1"):
        model("dog", "cat").require_classes({0: "Katze", 1: "dog"}, Path("data.yaml"))


def test_other_names_in_the_same_order_are_said() -> None:
    own = model("dog", "cat", "cat")
    names = {0: "Dog", 1: "cat (1)", 2: "cat (2)"}  # a repeated name is told apart by its index
    own.require_classes(names, Path("data.yaml"))
    assert own.renamed(names) is None
    other = names | {2: "tomcat"}
    own.require_classes(other, Path("data.yaml"))
    renamed = own.renamed(other)
    assert renamed is not None
    assert (renamed.name, renamed.count) == ("renamed_classes", 1)
    assert "1 of 3 have another name" in renamed.text
    assert "class 2 is 'tomcat' there and 'cat' in the model" in renamed.text


def test_image_sizes_off_the_model_s_stride_are_refused() -> None:
    model("dog").require_sizes([320, 160])
    with pytest.raises(UsageError, match=r"imgsz 96, 160: best\.pt takes multiples of 64 px"):
        model("dog", stride=64).require_sizes([160, 640, 96])


# -- from the command line -------------------------------------------------------------------------------------------


def demo_set(folder: Path, names: list[str]) -> Path:
    """A data file for the embedded images, with class names in the order given."""
    data = demo.prepare(USERS_CACHE / "demo")
    path = folder / "data.yaml"
    path.write_text(f"path: {data.parent}\ntrain: images/calib\nval: images/val\nnames: {names}\n", encoding="utf-8")
    return path


def test_a_run_on_class_names_in_another_order_is_refused_at_once(tmp_path: Path) -> None:
    known = list(load(demo.prepare(USERS_CACHE / "demo"), limit=1).names.values())
    done = bench("run", "--results", tmp_path / "r", "--data", demo_set(tmp_path, sorted(known, reverse=True)))
    assert done.code == 2, done.said
    assert "in another order" in done.said
    assert "Traceback" not in done.said
    assert not list((tmp_path / "r").iterdir()), "the run's folder is given back"


def test_notes_on_the_data_are_told_stored_and_reported(tmp_path: Path) -> None:
    known = list(load(demo.prepare(USERS_CACHE / "demo"), limit=1).names.values())
    data = demo_set(tmp_path, ["something else", *known[1:]])
    command = ["--sweep", "smoke", "--options", "pytorch", "-k", "export", "--data", data]
    done = bench("run", "--results", tmp_path, "--run-id", "r", *command)
    assert done.code == 0, done.said
    told = "(class 0 is 'something else' there and "
    assert told in done.said
    facts = store.read_table(tmp_path / "r", "environment").set_index("key").value
    assert told in facts["data_notes"]
    assert "something else" in (tmp_path / "r/report.html").read_text(encoding="utf-8")


def test_notes_on_the_data_are_shown_with_a_stored_run(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run")
    facts = store.read_table(directory, "environment").to_dict("records")
    facts.append({"scope": "run", "key": "data_notes", "value": '["14 of 16 images <b>have no label file</b>."]'})
    store.write_table(directory, "environment", facts)
    said = io.StringIO()
    report.print_run(directory, Console(file=said, width=200))
    assert "Data: 14 of 16 images <b>have no label file</b>." in said.getvalue()
    report.build(directory, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Data: 14 of 16 images &lt;b&gt;have no label file&lt;/b&gt;." in page

"""What cells predict, in turns that are timed and after them, with real guests that give each image's mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pyarrow as pa
import pytest
from test_worker import spec, worker

from bench.grid.matrix import Cell
from bench.measure.evaluation import Evaluation
from bench.measure.unscored import Unscored
from bench.measure.workshop import Workshop
from bench.reasons import UsageError
from bench.tasks.dataset import Image
from bench.tasks.detect.task import DETECT
from bench.wall.worker import Worker

SIDE = 10
LEVELS = {3: 0, 4: 51, 5: 102, 6: 153, 9: 204}
"""Grey levels of five images by their id: fifths of the brightest."""


class Mean:
    """A task whose prediction is the first value of the output."""

    prepare = staticmethod(DETECT.prepare)

    @staticmethod
    def decode(outputs: dict[str, np.ndarray[Any, np.dtype[np.float32]]], _geometry: object) -> float:
        return round(float(outputs["output"][4, 0]), 3)

    @staticmethod
    def pack(found: dict[int, float]) -> pa.Table:
        return pa.table({"image_id": list(found), "mean": list(found.values())})

    @staticmethod
    def unpack(rows: pa.Table) -> dict[int, float]:
        return dict(zip(rows["image_id"].to_pylist(), rows["mean"].to_pylist(), strict=True))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    images = []
    for number, level in LEVELS.items():
        path = tmp_path / f"{number}.png"
        assert cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), level, np.uint8))
        images.append(Image(number, path, SIDE, SIDE))
    parts = {
        "task": Mean,
        "store": SimpleNamespace(directory=tmp_path / "run"),
        "images": lambda _cell: SimpleNamespace(images=tuple(images)),
        "deadlines": lambda _cell: SimpleNamespace(infer=60.0),
        "progress": SimpleNamespace(phase=lambda *_: None),
    }
    return cast("Workshop", SimpleNamespace(**parts))


@pytest.fixture
def guests() -> Iterator[dict[str, Worker]]:
    with worker("linear") as one, worker("linear") as other:
        for guest in (one, other):
            guest.load(spec(batch=2))
        yield {"ref": one, "a": other}


def evaluation(workshop: Workshop, guests: dict[str, Worker], wanted: list[str]) -> Evaluation:
    cells = {name: cast("Cell", SimpleNamespace(id=name, imgsz=SIDE, batch=2)) for name in guests}
    run = workshop.store.directory
    found = {name: Unscored(run, name, workshop.task, "artifact") for name in wanted}
    return Evaluation(workshop, cells, found, guests.__getitem__)


def predictions(one: Evaluation) -> dict[str, dict[int, float]]:
    return {name: found.predictions() for name, found in one.found.items()}


EXPECTED = {number: round(level / 255, 3) for number, level in LEVELS.items()}


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_turns_and_what_comes_after_them_give_every_image_its_own_prediction(
    workshop: Workshop, guests: dict[str, Worker], warmup: int
) -> None:
    """Five images are three batches of two, of which the last is filled up."""
    one = evaluation(workshop, guests, ["ref", "a"])
    assert one.left(["ref", "a"]) == 3
    one.prepare(["ref", "a"], 2)
    for name in ("ref", "a"):
        timing = one.infer(name, 2, warmup)
        one.digest()
        assert timing.samples_ms.shape == (2,)
        assert timing.wall_s > 0
    assert predictions(one)["a"] == dict(list(EXPECTED.items())[:4])
    assert not one.whole("a")
    one.finish("a")
    assert predictions(one)["a"] == EXPECTED
    assert one.whole("a")
    one.prepare(["ref"], 7)
    assert one.infer("ref", 7, warmup).samples_ms.shape == (7,), "more of the last one, once they are through"
    one.digest()
    assert predictions(one)["ref"] == EXPECTED
    assert one.left(["ref", "a"]) == 0
    one.prepare(["ref"], 2)
    assert one.infer("ref", 2, warmup).samples_ms.shape == (2,)


def test_a_second_turn_in_a_round_infers_the_same_images(workshop: Workshop, guests: dict[str, Worker]) -> None:
    """As a reference has them among many cells; what is timed beside it has these images too."""
    one = evaluation(workshop, guests, ["ref"])
    one.prepare(["ref", "a"], 1)
    for name in ("ref", "a", "ref"):
        one.infer(name, 1, 1)
        one.digest()
    assert one.left(["ref"]) == one.left(["a"]) == 2
    assert predictions(one) == {"ref": dict(list(EXPECTED.items())[:2])}, "nobody wants what the other predicts"


def test_what_does_not_take_part_is_timed_on_what_it_was_given_last(
    workshop: Workshop, guests: dict[str, Worker]
) -> None:
    one = evaluation(workshop, {"ref": guests["ref"]}, ["ref"])
    one._guest_of = guests.__getitem__
    last = np.full((2, 3, SIDE, SIDE), 0.5, np.float32)
    guests["a"].outputs(last)
    one.prepare(["ref", "a"], 2)
    assert one.infer("a", 3, 1).samples_ms.shape == (3,)
    one.digest()
    assert one.left(["a"]) == 0
    assert one.left(["ref", "a"]) == 3
    assert predictions(one) == {"ref": {}}


def test_what_is_prepared_at_once_fits_into_what_it_may_take(
    workshop: Workshop, guests: dict[str, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the three batches, of which each is 2 x 3 x 10 x 10 values of four bytes."""
    monkeypatch.setattr("bench.measure.evaluation._HELD_BYTES", 2 * 2400)
    one = evaluation(workshop, guests, ["ref"])
    one.prepare(["ref"], 3)
    assert one.infer("ref", 3, 1).samples_ms.shape == (3,)
    one.digest()
    assert one.left(["ref"]) == 1
    one.finish("ref")
    assert predictions(one)["ref"] == EXPECTED


def test_an_image_that_was_exchanged_is_named(workshop: Workshop, guests: dict[str, Worker], tmp_path: Path) -> None:
    one = evaluation(workshop, guests, ["ref"])
    assert cv2.imwrite(str(tmp_path / "4.png"), np.zeros((SIDE, 2 * SIDE, 3), np.uint8))
    with pytest.raises(UsageError, match=r"4\.png was 10 x 10 px .* is now 20 x 10"):
        one.prepare(["ref"], 1)


def test_images_that_every_cell_has_predicted_are_not_inferred_again(
    workshop: Workshop, guests: dict[str, Worker]
) -> None:
    """As of a run that was stopped.  Of three batches the first is done; of the second `a` lacks an image.

    What was predicted stays as it was, which is nothing that these guests would say.
    """
    before = evaluation(workshop, guests, ["ref", "a"])
    before.found["ref"].add(dict.fromkeys((3, 4, 5, 6), 9.0))
    before.found["a"].add(dict.fromkeys((3, 4, 5), 9.0))
    for found in before.found.values():
        found.flush()
    one = evaluation(workshop, guests, ["ref", "a"])
    assert one.left(["ref"]) == one.left(["a"]) == 2, "turns of a round are alike"
    one.prepare(["ref", "a"], 1)
    for name in ("ref", "a"):
        one.infer(name, 1, 1)
        one.digest()
    assert not one.whole("ref")
    for name in ("ref", "a"):
        one.finish(name)
        assert one.whole(name)
    assert predictions(one) == {
        "ref": EXPECTED | dict.fromkeys((3, 4, 5, 6), 9.0),
        "a": EXPECTED | dict.fromkeys((3, 4, 5), 9.0),
    }
    again = evaluation(workshop, guests, ["ref", "a"])
    assert again.left(["ref", "a"]) == 0
    assert again.whole("a"), "also of a process that was killed before it was scored"
    guests["a"].outputs(np.full((2, 3, SIDE, SIDE), 0.5, np.float32))
    again.prepare(["a"], 2)
    assert again.infer("a", 2, 1).samples_ms.shape == (2,), "it is timed nevertheless"

"""Predictions of many cells: joined piece by piece, read in part, and a small one of the tables of COCO's size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import store
from bench.places import ROOT
from bench.store import parquet, parts, tables
from bench.store.merging import merged
from bench.store.tables import DETECTIONS, add_part, join_parts, read_table


def cell(name: str, images: Sequence[int]) -> pa.Table:
    """Detections of a cell in these images; each says by its class how many of the cell came before it."""
    box = {"score": 0.5, "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "matched": 1}
    rows = [{"cell_id": name, "image_id": image, "category_id": place, **box} for place, image in enumerate(images)]
    return pa.Table.from_pylist(rows, schema=DETECTIONS)


class Pieces:
    """A table in pieces of some rows, which counts those that were asked for."""

    def __init__(self, table: pa.Table, size: int) -> None:
        self.table, self.size, self.asked = table, size, 0

    def __iter__(self) -> Iterator[pa.Table]:
        for start in range(0, len(self.table), self.size):
            self.asked += 1
            yield self.table.slice(start, self.size)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_tables_are_merged_as_a_stable_sort_of_all_their_rows_would(size: int) -> None:
    """An image may fill several pieces, be missing, or be the only one; a table may have no row."""
    draw = np.random.default_rng(size)
    images = [[3] * 7, [], [0, 0, 5, 9], [9], *(sorted(draw.integers(0, 12, 20).tolist()) for _ in range(3))]
    given = [cell(f"c{number}", found) for number, found in enumerate(images)]
    expected = pa.concat_tables(given).to_pandas()
    expected = expected.sort_values("image_id", kind="stable", ignore_index=True).astype({"cell_id": str})
    found = pa.concat_tables(list(merged([iter(Pieces(one, size)) for one in given], "image_id")))
    pd.testing.assert_frame_equal(found.to_pandas().astype({"cell_id": str}), expected)


def test_at_most_two_pieces_of_a_table_are_read_before_they_are_given() -> None:
    """Four tables of eight images in pieces of two rows: after n rows of 32, no more than those and two pieces each."""
    sources = [Pieces(cell(f"c{number}", range(8)), 2) for number in range(4)]
    given = 0
    for rows in merged([iter(source) for source in sources], "image_id"):
        given += len(rows)
        asked = sum(source.asked * source.size for source in sources)
        assert asked <= given + 4 * 2 * 2
    assert given == 32


def test_parts_are_joined_in_order_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PIECE", 2)
    for name, images in (("a", [0, 1, 1, 4]), ("b", [0, 0, 0, 2, 4])):
        add_part(tmp_path, "detections", cell(name, images))
    assert pq.ParquetFile(tmp_path / "parts" / "detections-00001.parquet").num_row_groups == 3
    join_parts(tmp_path, "detections", "image_id")
    found = read_table(tmp_path, "detections")
    rows = found.cell_id.str.cat(found.image_id.astype(str)).tolist()
    assert rows == ["a0", "b0", "b0", "b0", "a1", "a1", "b2", "a4", "b4"]
    assert not (tmp_path / "parts").exists()


def test_parts_that_a_run_joins_while_they_are_read_are_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        add_part(tmp_path, "detections", cell(name, [0, 1]))
    listed, joined = parts.files, list[str]()

    def files(directory: Path, name: str) -> list[Path]:
        found = listed(directory, name)
        if not joined:
            joined.append(name)
            join_parts(directory, name, "image_id")
        return found

    monkeypatch.setattr(parts, "files", files)
    found = parts.read(tmp_path, "detections")
    assert found is not None
    assert found["cell_id"].to_pylist() == ["a", "b", "a", "b"]


def test_a_part_that_cannot_be_read_leaves_all_parts(tmp_path: Path) -> None:
    for name in "ab":
        add_part(tmp_path, "detections", cell(name, [0, 1]))
    second = tmp_path / "parts" / "detections-00001.parquet"
    second.write_bytes(second.read_bytes()[:-9])
    with pytest.raises(store.StoreError, match=r"cannot read .*detections-00001\.parquet"):
        join_parts(tmp_path, "detections", "image_id")
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == [
        "detections-00000.parquet", "detections-00001.parquet",
    ]  # fmt: skip


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Cells a and b in six images, in groups of four rows."""
    rows = pa.concat_tables([cell(name, [image]) for image in range(6) for name in "ab"]).unify_dictionaries()
    schema = DETECTIONS.with_metadata({"schema_version": str(store.SCHEMA_VERSION), "table": "detections"})
    parquet.write(tmp_path / "detections.parquet", rows, schema, group=4)
    return tmp_path


@pytest.mark.parametrize(
    ("only", "rows"),
    [
        ({"image_id": [5]}, ["a5", "b5"]),
        ({"image_id": [0, 3], "cell_id": ["b"]}, ["b0", "b3"]),
        ({"cell_id": ["a"]}, ["a0", "a1", "a2", "a3", "a4", "a5"]),
        ({"cell_id": ["c"]}, []),
        ({"image_id": []}, []),
    ],
)
def test_only_what_is_asked_for_is_read(grouped: Path, only: parquet.Only, rows: list[str]) -> None:
    found = read_table(grouped, "detections", only)
    assert found.columns.tolist() == DETECTIONS.names
    assert [f"{name}{image}" for name, image in zip(found.cell_id, found.image_id, strict=True)] == rows
    some = read_table(grouped, "detections", only, columns=["image_id"])
    assert some.columns.tolist() == ["image_id"]
    assert some.image_id.tolist() == found.image_id.tolist()


def test_a_large_table_is_read_as_a_small_one_is(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, some = read_table(grouped, "detections"), read_table(grouped, "detections", columns=["cell_id", "x"])
    monkeypatch.setattr(tables, "_LARGE", 11)
    pd.testing.assert_frame_equal(read_table(grouped, "detections"), small)
    pd.testing.assert_frame_equal(read_table(grouped, "detections", columns=["cell_id", "x"]), some)
    monkeypatch.setattr(tables, "SCHEMA_VERSION", store.SCHEMA_VERSION + 1)
    tables.write_table(grouped, "detections", cell("a", range(12)))
    with pytest.raises(store.StoreError, match="a newer one wrote it"):
        read_table(grouped, "detections")


def test_groups_that_cannot_hold_it_are_not_decoded(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    read = pq.ParquetFile.read_row_group

    def watched(file: pq.ParquetFile, place: int, **given: object) -> pa.Table:
        decoded.append(place)
        return read(file, place, **given)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    read_table(grouped, "detections", {"image_id": [2]})
    assert decoded == [1], "images 2 and 3 of both cells"


def test_the_whole_of_it_by_its_program() -> None:
    program = ROOT / "tests" / "benchmarks" / "coco_tables.py"
    done = subprocess.run(
        [sys.executable, str(program), "2", "4", "--images", "50"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["2", "4"]

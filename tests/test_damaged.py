"""What the campaign of faults found, as tests: files that were damaged, answers that do not fit, a second pytest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import running  # noqa: F401 - what it imports is not to be forgotten by `pytester`
from report_fixture import cell_id, write_run

from bench.api import compare_cells
from bench.decide import gate
from bench.environments import houses
from bench.environments.locked import Environments
from bench.grid import matrix
from bench.guest.server import PROTOCOL
from bench.places import MATRICES, ROOT
from bench.reasons import CellProblem, Reason, StoreError, UsageError
from bench.report import checked
from bench.store import baselines, read_table, write_table
from bench.store.parquet import read
from bench.store.reading import load
from bench.tasks.detect.task import DETECT
from bench.wall import checkpoint
from bench.wall.artifacts import MANIFEST, Artifacts
from bench.wall.worker import Worker

pytest_plugins = ["pytester"]
HOUSE = b"a packed house"


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_bit_that_flips_in_a_table_is_an_error_and_not_another_number(tmp_path: Path) -> None:
    """Every byte of the values: pages have checksums, so that none of them can be another unnoticed."""
    whole = [{"image_id": index, "file_name": "a", "category_id": 1, "objects": index * 7} for index in range(50)]
    path = write_table(tmp_path, "ground_truth", whole)
    data, table = path.read_bytes(), read(path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    start = column.dictionary_page_offset or column.data_page_offset
    noticed = 0
    for place in range(start, start + column.total_compressed_size):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with suppress(StoreError):
            same = read(path).equals(table)
            noticed -= 1
            assert same, place
        noticed += 1
    assert noticed > column.total_compressed_size / 2


def test_a_column_that_has_another_name_now_is_not_taken_for_one_of_before(tmp_path: Path) -> None:
    """Names stand where nothing has a checksum, and a column that is not there may be an older run's."""
    run = write_run(tmp_path / "run")
    path = run / "cells.parquet"
    data, told = path.read_bytes(), 0
    for place in range(len(data)):
        if data.startswith(b"export_seconds", place):
            path.write_bytes(data[:place] + b"exqort_seconds" + data[place + len(b"export_seconds") :])
            with suppress(StoreError):
                assert read_table(run, "cells").export_seconds.notna().any(), place
                told -= 1
            told += 1
    assert told > 0
    path.write_bytes(data.replace(b"export_seconds", b"exqort_seconds"))
    with pytest.raises(StoreError, match=r"cells\.parquet.*its columns have other names than those that were written"):
        read_table(run, "cells")


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(run / f"{name}.parquet").to_pylist()
    return found


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("cells", {"cell_id": None}, "1 of 15 rows have no cell_id"),
        ("cells", {"status": "fine"}, "'fine' is no status of a cell"),
        ("cells", {"cell_id": cell_id("onnx", "fp32")}, "1 cells are there twice"),
        ("cells", {"batch": 0}, "batch is 0 in 1 of 15 rows"),
        ("cells", {"batch": None}, "1 of 15 rows have no batch"),
        ("cells", {"imgsz": None}, "1 of 15 rows have no imgsz"),
        ("cells", {"threads": None}, "1 of 15 rows have no threads"),
        ("cells", {"attested": "[1]"}, "is no JSON object"),
        ("cells", {"attested": '{"device'}, "is no JSON object"),
        ("samples", {"latency_ms": 0.0}, "latency_ms is 0.0 in 1 of"),
        ("samples", {"latency_ms": float("nan")}, "latency_ms is nan in 1 of"),
        ("detections", {"y": float("inf")}, "y is inf in 1 of"),
        ("environment", {"value": None}, "have no value"),
        ("environment", {"scope": "time", "key": "total", "value": "cpu"}, "total of time is no number of seconds"),
        ("environment", {"scope": "time", "key": "load", "value": "nan"}, "load of time is no number of seconds"),
        ("environment", {"scope": "time", "key": "load", "value": "-1"}, "load of time is no number of seconds"),
        ("environment", {"scope": "identity", "key": "c", "value": "[]"}, "c of identity is no JSON object"),
        ("environment", {"scope": "run", "key": "latency_disturbed", "value": "c"}, "disturbed of run is no JSON list"),
        ("environment", {"scope": "run", "key": "category_ids", "value": "{}"}, "category_ids of run is no JSON list"),
    ],
)
def test_a_table_that_cannot_be_meant_is_told(tmp_path: Path, table: str, change: dict[str, Any], said: str) -> None:
    run = write_run(tmp_path / "run")
    kept = rows(run, table)
    write_table(run, table, [kept[0] | change, *kept[1:]])
    with pytest.raises(StoreError, match=rf"{table}\.parquet.*") as told:
        read_table(run, table)
    assert said in str(told.value)


def test_columns_of_another_type_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    path = run / "cells.parquet"
    table = read(path)
    place = table.column_names.index("imgsz")
    pq.write_table(table.set_column(place, "imgsz", pa.array(["wide"] * len(table))), path)
    with pytest.raises(StoreError, match=r"cells\.parquet: it holds no table cells"):
        read_table(run, "cells")


@pytest.mark.parametrize("value", ["no JSON", "[" * 100_000, '{"a": 1}', "7", "null"])
def test_facts_that_are_no_json_are_shown_and_do_no_harm(tmp_path: Path, value: str) -> None:
    run = write_run(tmp_path / "run")
    facts = [{"scope": "run", "key": key, "value": value} for key in ("data_notes", "outside_guide", "option_names")]
    write_table(run, "environment", [*rows(run, "environment"), *facts])
    read_run = load(run)
    assert read_run.data_notes == (value,)
    assert not any(read_run.outside_guide(cell) for cell in read_run.cells)


def test_a_run_of_a_task_that_nobody_knows_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    facts = [one for one in rows(run, "environment") if one["key"] != "task"]
    write_table(run, "environment", [*facts, {"scope": "run", "key": "task", "value": "guess"}])
    for read_run in (lambda: compare_cells(run, "onnx-fp32", "onnx-int8"), lambda: gate.tables(run, [])):
        with pytest.raises(UsageError, match="of the task 'guess', which this bench does not know"):
            read_run()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"operators": [], "notes": []}', b"7"])
def test_a_check_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "check.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"check\.json: no facts of a check"):
        checked.read(tmp_path, "en")


# -- baselines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def promotable(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run", problems=False)
    told = dict.fromkeys(("model_sha256", "images", "data_sha256", "sweep", "model", "data", "task", "commit"), "x")
    told["house"] = hashlib.sha256(HOUSE).hexdigest()
    facts = [{"scope": "run", "key": key, "value": value} for key, value in told.items()]
    facts.append({"scope": "identity", "key": cell_id("onnx", "fp32"), "value": '{"lock": "a"}'})
    write_table(run, "environment", [*rows(run, "environment"), *facts])
    return run


def test_a_baseline_of_a_run_that_was_killed_has_its_predictions(promotable: Path, tmp_path: Path) -> None:
    """They are in the parts then."""
    whole = read_table(promotable, "detections")
    (promotable / "parts").mkdir()
    (promotable / "detections.parquet").rename(promotable / "parts" / "detections-00000.parquet")
    made = baselines.promote(promotable, tmp_path / "baselines", "machine", "main", "why not", HOUSE)
    pd.testing.assert_frame_equal(read_table(made.run, "detections"), whole)
    assert made.house == HOUSE
    assert not (made.run / "samples.parquet").exists()


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("baseline.json", lambda data: data[:50]),
        ("baseline.json", lambda _: b"[]"),
        ("baseline.json", lambda _: b"{}"),
        ("baseline.json", lambda _: b"[" * 100_000),
        ("baseline.json", lambda data: data.replace(b'"lock": "a"', b'"lock"  "a"')),
        ("promotions.jsonl", lambda data: data[:-5]),
        ("promotions.jsonl", lambda _: b"7\n"),
        ("house.zip", lambda _: b"another house"),
    ],
)
def test_a_damaged_baseline_is_one_line(
    promotable: Path, tmp_path: Path, file: str, change: Callable[[bytes], bytes]
) -> None:
    root = tmp_path / "baselines"
    made = baselines.promote(promotable, root, "machine", "main", "why not", HOUSE)
    assert [one["why"] for one in baselines.history(made)] == ["why not"]
    damaged(made.directory / file, change)
    with pytest.raises(StoreError, match=rf"{file}: (cannot be read|is not the house).*promote again"):
        (baselines.history(baselines.every(root)[0]), baselines.load(root, "machine", "main").house)


def test_a_damaged_baseline_does_not_hide_another(promotable: Path, tmp_path: Path) -> None:
    root = tmp_path / "baselines"
    for name in ("main", "other"):
        baselines.promote(promotable, root, "machine", name, "why not", HOUSE)
    damaged(root / "machine" / "other" / "baseline.json", lambda _: b"")
    assert baselines.load(root, "machine", "main").name == "main"
    with pytest.raises(UsageError, match=r"no baseline 'mian'.*did you mean main"):
        baselines.load(root, "machine", "mian")


def test_a_house_that_cannot_be_unpacked_is_one_line(tmp_path: Path) -> None:
    packed = houses.pack(MATRICES)
    for place in range(0, len(packed), len(packed) // 25):
        with suppress(UsageError):  # some of them can still be unpacked
            houses.unpack(packed[:place] + b"\xff\xff\xff\xff" + packed[place + 4 :], tmp_path)
    with pytest.raises(UsageError, match="not a packed house"):
        houses.unpack(packed[: len(packed) // 2], tmp_path)


# -- caches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"names": {}}',
        b'{"names": {"0": "a"}, "strides": []}',
        b"\xff",
        b'{"names": {"0": "a"}, "strides": [1e332]}',
    ],
)
def test_what_the_cache_keeps_of_a_checkpoint_is_asked_again_where_it_is_damaged(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    assert checkpoint._kept(path) is None
    path.write_text('{"names": {"0": "a"}, "strides": [32], "task": "detect"}', encoding="utf-8")
    assert checkpoint._kept(path) == {"names": {0: "a"}, "strides": [32], "task": "detect"}


def test_a_manifest_that_lacks_what_is_read_of_it_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / ("0" * 64)
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    manifest: dict[str, Any] = {
        "key": folder.name,
        "files": [{"path": "model.bin", "bytes": 7, "sha256": digest}],
        "sha256": hashlib.sha256(f"{digest}  model.bin\n".encode()).hexdigest(),
        "size_bytes": 7,
        "seconds": 1.0,
        "calibration": None,
        "entry": "model.bin",
        "input": {},
        "output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 21]},
        "versions": {},
        "reproduce": "",
    }
    artifacts = Artifacts(tmp_path, Environments(MATRICES, tmp_path))

    def found(**change: Any) -> bool:
        (folder / MANIFEST).write_text(json.dumps(manifest | change), encoding="utf-8")
        return artifacts.find(folder.name) is not None

    assert found()
    assert not found(key="1" * 64)
    assert not found(output={"layout": "channels_first"})
    assert not found(output=[])
    assert not found(entry=None)
    assert not found(size_bytes="many")
    assert not found(seconds=None)
    for name in manifest:
        (folder / MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if k != name}), encoding="utf-8")
        assert artifacts.find(folder.name) is None, name
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    assert artifacts.find(folder.name) is None


def test_a_cache_that_cannot_be_written_is_the_users_to_correct(tmp_path: Path) -> None:
    (tmp_path / "envs").write_text("no folder", encoding="ascii")
    with pytest.raises(UsageError, match=r"cannot write the cache .*choose another --cache"):
        Environments(MATRICES, tmp_path).variables()


# -- what people write -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("val: 2024-13-45\nnames: [a]\n", "not valid YAML"),
        ("val: !!bool perhaps\nnames: [a]\n", "not valid YAML"),
        ("val: !!timestamp never\nnames: [a]\n", "not valid YAML"),
        ("[" * 10_000, "not valid YAML"),
        ('val: "a\\0b"\nnames: [a]\n', "line 1: .* holds a NUL"),
        ('val: .\nnames: ["\\ud800"]\n', "line 2: .* half a character"),
        ("val: .\nnc: 999999999999\n", "32767 at most, not 999999999999"),
        ("val: .\nnames: [[a]]\n", "the name .* is no text"),
        ("val: &a [*a]\nnames: [a]\n", "must be a path or a list of paths"),
        ("val: !!python/object/apply:os.system ['touch x']\nnames: [a]\n", "not valid YAML"),
    ],
)
def test_a_data_file_that_no_parser_foresees_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"data\.yaml.*{said}"):
        DETECT.load(path)


def test_a_few_anchors_that_stand_for_a_great_deal_are_told_briefly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "data.yaml"
    path.write_text("\n".join([*lines, "val: [*a11]", "names: [a]"]), encoding="utf-8")
    with pytest.raises(UsageError, match="'val' must be a path") as told:
        DETECT.load(path)
    assert len(str(told.value)) < 3000


def test_a_list_of_images_with_a_nul_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\0b.png\n", encoding="utf-8")
    (tmp_path / "data.yaml").write_text("val: list.txt\nnames: [a]\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"list\.txt, line 1"):
        DETECT.load(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("imgsz = [65568]", "imgsz.0: Input should be less than or equal to 65536"),
        ("batch = [99999999999]", "batch.0: Input should be less than or equal to 65536"),
        (f"images = {'9' * 5000}", "not valid TOML"),
        (f"options = {'[' * 5000}", "not valid TOML"),
    ],
)
def test_a_sweep_that_no_table_could_hold_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    folder = shutil.copytree(MATRICES, tmp_path / "matrices")
    (folder / "sweeps" / "odd.toml").write_text(f'description = "odd"\n{line}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"odd\.toml") as told:
        matrix.load(folder).sweep("odd")
    assert said in str(told.value)


def test_a_pattern_that_is_none_is_told_where_it_stands(tmp_path: Path) -> None:
    folder = shutil.copytree(MATRICES, tmp_path / "matrices")
    with (folder / "targets.toml").open("a", encoding="utf-8") as file:
        file.write('\n[odd]\nname = "o"\ndevice = "o"\nneeds = "o"\ndetect = { command = ["true"], prints = "(" }\n')
    with pytest.raises(UsageError, match=r"targets\.toml: odd\.detect\.prints: '\(' is no regular expression"):
        matrix.load(folder)


# -- guests ------------------------------------------------------------------------------------------------------------

SPEC = {"manifest": {"output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 2]}}}


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 100_000,
        '{"id": 1, "samples_ns": [0, 5], "cpu_ns": 1, "wall_ns": 1, "threads": 1}',
        '{"id": 1, "samples_ns": [-3, 5], "cpu_ns": 1, "wall_ns": 1, "threads": 1}',
        '{"id": 1, "samples_ns": [NaN, 5], "cpu_ns": 1, "wall_ns": 1, "threads": 1}',
        '{"id": 1, "samples_ns": [Infinity, 5], "cpu_ns": 1, "wall_ns": 1, "threads": 1}',
        '{"id": 1, "samples_ns": [1, 5], "cpu_ns": 1, "wall_ns": 1, "threads": Infinity}',
        '{"id": 1, "samples_ns": [1, 1%s], "cpu_ns": 1, "wall_ns": 1, "threads": 1}' % ("0" * 400),
    ],
)
def test_times_that_cannot_be_are_a_breach_of_the_protocol(tmp_path: Path, answer: str) -> None:
    said = tmp_path / "said"
    said.write_text(json.dumps({"id": 0, "protocol": PROTOCOL, "confined": {}}) + f"\n{answer}\n", encoding="utf-8")
    parrot = tmp_path / "parrot"
    parrot.write_text('#!/bin/sh\ncat "$SAID"\nwhile read -r _; do :; done\n', encoding="ascii")
    parrot.chmod(0o755)
    worker = Worker(parrot, Path("parrot.py"), variables={"PATH": os.environ["PATH"], "SAID": str(said)})
    with pytest.raises(CellProblem) as told, worker:
        worker.time(2, 0, 5.0)
    assert told.value.reason is Reason.PROTOCOL


def test_a_temporary_folder_that_cannot_be_written_is_the_cells_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    worker = Worker(Path(sys.executable), Path("unused.py"), variables={})
    with pytest.raises(CellProblem, match=r"cannot make a folder for the files of unused: .*set TMPDIR") as told:
        worker.start()
    assert told.value.reason is Reason.ENVIRONMENT_FAILED


# -- pytest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", ["smoke", "nope"])
def test_several_processes_are_refused_in_one_line(pytester: pytest.Pytester, sweep: str) -> None:
    """They would measure the same cells at once; a wrong name among the options ended in an INTERNALERROR."""
    done = pytester.runpytest_inprocess(ROOT / "bench", "-n", "1", "-p", "no:cacheprovider", "--sweep", sweep)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    said = done.stdout.str() + done.stderr.str()
    assert "INTERNALERROR" not in said
    assert "ERROR: cells are measured one after another, in one process: leave -n and --dist out" in said


def test_the_projects_own_tests_may_have_several_processes(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_inprocess(
        ROOT / "tests" / "test_reasons.py", "-n", "1", "-p", "no:cacheprovider", "--collect-only", "-q"
    )
    assert done.ret == 0, done.stdout.str()

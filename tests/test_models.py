"""Several models in one run: their names, their cells, what is told before a run, and the choice among all of them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import older
import pytest
from report_fixture import write_run
from running import USERS_CACHE, bench

from bench import demo, store
from bench.decide import compare
from bench.decide.deploy import candidates
from bench.decide.deploy.front import front
from bench.decide.deploy.recommend import Candidate, Figure, Standing, limits, recommend
from bench.grid import matrix, request
from bench.grid.models import named
from bench.places import DEMO_CHECKPOINT, MATRICES, REPORTS
from bench.reasons import UsageError
from bench.report import build, check, marks
from bench.report.recommendation import steps
from bench.site import evidence, home, pages
from bench.stats.contrast import Contrasts, Mean
from bench.store import baselines, reading
from bench.words.locale import Language, load

# -- names -----------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_a_model_is_called_by_its_file_and_one_content_is_one_model(tmp_path: Path) -> None:
    one, copy = checkpoint(tmp_path / "a/best.pt", b"one"), checkpoint(tmp_path / "b/best.pt", b"one")
    assert named([one, "yolo11n.pt"]) == {"best": one, "yolo11n": "yolo11n.pt"}
    assert named([one, copy, one]) == {"best": one}


def test_two_contents_of_one_file_name_never_share_a_name(tmp_path: Path) -> None:
    contents = {folder: folder.encode() for folder in ("a", "b")}
    paths = {folder: checkpoint(tmp_path / folder / "best.pt", content) for folder, content in contents.items()}
    digests = {folder: hashlib.sha256(content).hexdigest()[:7] for folder, content in contents.items()}
    found = named([paths["b"], "yolo11n.pt", paths["a"]])
    assert found == {
        f"best-{digests['b']}": paths["b"], "yolo11n": "yolo11n.pt", f"best-{digests['a']}": paths["a"],
    }  # fmt: skip
    assert list(found.values()) == [paths["b"], "yolo11n.pt", paths["a"]], "in the order given"
    taken = checkpoint(tmp_path / f"best-{digests['a']}.pt", b"another")
    with pytest.raises(UsageError, match=r"would both be called best-.*rename one"):
        named([paths["a"], paths["b"], taken])
    with pytest.raises(UsageError, match=r"another model has the same file name"):
        named([paths["a"], str(tmp_path / "gone" / "best.pt")])


def grid(**values: str) -> request.Grid:
    return request.expand(request.Request({"options": "onnx", "precisions": "fp32", "targets": "cpu"} | values))


def test_every_model_has_cells_and_a_reference_of_its_own() -> None:
    found = grid(model="n.pt,s.pt", imgsz="160,320")
    assert found.models == {"n": "n.pt", "s": "s.pt"}
    ids = [cell.cell_id for cell in found.cells]
    assert len(set(ids)) == len(ids) == 2 * 2 * 2
    assert {found.matrix.reference_of(cell).cell_id for cell in found.cells} <= set(ids)
    assert all(found.matrix.reference_of(cell).model == cell.model for cell in found.cells)
    readable = [cell.id for cell in found.cells]
    assert readable[:4] == [
        "n/pytorch-fp32-cpu-160", "s/pytorch-fp32-cpu-160", "n/onnx-fp32-cpu-160", "s/onnx-fp32-cpu-160",
    ]  # fmt: skip
    alone = grid(model="n.pt")
    assert [cell.id for cell in alone.cells] == ["pytorch-fp32-cpu-320", "onnx-fp32-cpu-320"], "as ever"
    assert grid().models == {DEMO_CHECKPOINT.stem: str(DEMO_CHECKPOINT)}


def test_a_comma_may_be_part_of_a_file_name(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a,b.pt", b"one")
    assert grid(model=path).models == {"a,b": path}
    assert grid(model=f"{path},c.pt").models.keys() != {"a,b", "c"}, "in a list it stands for the next"


# -- before a run ----------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_any_model_is_told_before_the_run(tmp_path: Path) -> None:
    good, same = (str(shutil.copy(demo.CHECKPOINT, tmp_path / name)) for name in ("good.pt", "same.pt"))
    none = checkpoint(tmp_path / "none.pt", b"this is no checkpoint")
    data = demo.prepare(USERS_CACHE / "demo")
    models = f"{good},{same},{none},gone.pt"
    done = bench("run", "--model", models, "--data", data, "--images", "4", "--results", tmp_path / "r")
    assert done.code == 2, done.said
    for words in ("good.pt and", "same.pt hold the same model", "none.pt cannot be used", "gone.pt: no such file"):
        assert words in done.said
    assert not list((tmp_path / "r").iterdir())


def test_what_takes_one_model_says_so() -> None:
    models = ["--model", "n.pt,s.pt", "--data", "data.yaml"]
    done = bench("self-check", "--minutes", "1", *models)
    assert done.code == 2
    assert "the gate is tried on one model: give one --model" in done.said
    done = bench("ab", "--options", "onnx", "--precisions", "fp32", "--targets", "cpu", "--base", "current",
                 "--candidate", "s.pt", *models)  # fmt: skip
    assert done.code == 2
    assert "choose it with --model" in done.said
    assert "n/onnx-fp32-cpu-320, s/onnx-fp32-cpu-320" in done.said


# -- the rule --------------------------------------------------------------------------------------------------------


def exact(value: float) -> Figure:
    return Figure(value, value, value)


def candidate(name: str, time: float, score: float, loss: float = 0.0, behind: float = 0.0, size: float = 5.0) -> Any:
    figures: dict[str, Figure | None] = dict.fromkeys(("latency", "throughput", "memory", "packages"))
    figures |= {"time": exact(time), "map": exact(score), "loss": exact(loss), "size": exact(size)}
    return Candidate(name, name, name, "fp32", True, figures, behind_best=exact(behind))


def apart(given: list[Candidate]) -> Contrasts:
    """All times told apart, each by its estimate."""
    every = [(one, other) for one in given for other in given if one.time.value < other.time.value]
    return Contrasts(tuple(one.cell_id for one in given), {}, frozenset((a.cell_id, b.cell_id) for a, b in every))


def climbed(given: list[Candidate], **wanted: float) -> list[str]:
    return [one.cell_id for one in front(given, limits(**wanted), apart(given))]


def test_the_front_is_the_fastest_for_each_accuracy() -> None:
    given = [
        candidate("n-fp32", 0.30, 0.390),
        candidate("n-int8", 0.20, 0.385, loss=0.005),
        candidate("s-fp32", 1.00, 0.470),
        candidate("s-fp16", 0.60, 0.469, loss=0.001),
        candidate("s-int8", 0.28, 0.440, loss=0.030),
        candidate("m-fp32", 2.50, 0.475),
    ]
    # n-fp32 gains 0.005 over n-int8, s-fp32 and m-fp32 gain less than 0.01 over s-fp16; s-int8 loses more than 0.01.
    assert climbed(given) == ["n-int8", "s-fp16"]
    # Were s-int8's loss of no matter, it is the answer between the two.
    assert climbed(given, loss=1.0) == ["n-int8", "s-int8", "s-fp16"]
    assert climbed(given, map=0.45) == ["s-fp16"], "the fastest of that accuracy"
    assert climbed(given, time=0.25) == ["n-int8"], "the most accurate for that time"
    assert climbed(given, size=1.0) == []


def test_a_step_that_the_next_one_outruns_is_none() -> None:
    """Of two that tie with the fastest the most accurate is taken; what then takes no longer takes its place."""
    figures = {"quick": (0.50, 0.40, 0.04), "exact": (0.53, 0.42, 0.02), "better": (0.52, 0.44, 0.0)}
    given = [candidate(name, time, score, behind=behind) for name, (time, score, behind) in figures.items()]
    tied = Contrasts(("quick", "exact", "better"), {}, frozenset({("quick", "better")}))
    assert [one.cell_id for one in front(given, limits(), tied)] == ["better"]


def test_accuracy_is_compared_across_models_by_what_each_is_behind_the_best() -> None:
    """Neither loses anything against its own model, and they tie in time: the larger model is the better answer."""
    small, large = candidate("n", 0.5, 0.39, behind=0.08, size=5.0), candidate("s", 0.52, 0.47, size=9.0)
    slow = candidate("slow", 0.9, 0.39, behind=0.08, size=9.0)
    means = {("n", "s"): Mean(-0.04, 0.05, 9, 10, 0.0), ("s", "slow"): Mean(-0.5, 0.01, 9, 10, 0.0)}
    pairs = Contrasts(("n", "s", "slow"), means, frozenset({("s", "slow"), ("n", "slow")}))
    choices = recommend([small, large, slow], limits(), pairs).of(Standing.MEETS)
    assert [one.candidate.cell_id for one in choices] == ["s", "n", "slow"]
    assert (choices[0].beaten_by, choices[1].beaten_by) == ("", ""), "each is better in something: accuracy, size"
    assert (choices[2].beaten_by, set(choices[2].better_in)) == ("s", {"time", "loss"})


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models timed in the same rounds: `s` takes twice the time of `demo` throughout, and has 0.05 mAP more."""
    run = write_run(tmp_path_factory.mktemp("models") / "run", options=("pytorch", "openvino"), problems=False)
    tables = {name: store.read_table(run, name) for name in ("cells", "samples", "detections")}

    def of_s(text: str) -> str:
        return text.replace("demo/", "s/")

    small = tables["cells"].astype(object).where(tables["cells"].notna(), None)
    large = small.assign(
        cell_id=small.cell_id.map(of_s), reference_id=small.reference_id.map(of_s), model="s", model_sha256="f" * 64,
        map50_95=small.map50_95 + 0.05, latency_p50_ms=small.latency_p50_ms * 2,
    )  # fmt: skip
    small = small.assign(model_sha256="0" * 64)
    store.write_table(run, "cells", [*small.to_dict("records"), *large.to_dict("records")])
    samples = tables["samples"].astype({"cell_id": str})
    slower = samples.assign(
        cell_id=samples.cell_id.map(of_s), latency_ms=samples.latency_ms * 2, order=samples.order + 20
    )
    store.write_table(run, "samples", [*samples.to_dict("records"), *slower.to_dict("records")])
    seen = tables["detections"].astype({"cell_id": str})
    better = seen.assign(cell_id=seen.cell_id.map(of_s))
    seen.loc[seen.index % 20 == 0, "matched"] = 0  # the smaller one misses a twentieth more
    store.write_table(run, "detections", [*seen.to_dict("records"), *better.to_dict("records")])
    return run


POINT = "-cpu-320-b1-t2"
STEPS = [f"{model}/openvino-int8{POINT}" for model in ("demo", "s")]


def test_models_are_chosen_from_together_on_one_scale(folder: Path) -> None:
    data = reading.load(folder)
    (field,) = candidates.joint(data)
    assert (field.models, field.sizes, field.several, len(candidates.fields(data))) == (("demo", "s"), (320,), True, 2)
    assert field.yardstick == "PyTorch FP32 · s"
    found = {one.cell_id: one for one in field.candidates}
    best, other = (found[f"{model}/pytorch-fp32{POINT}"] for model in ("s", "demo"))
    assert (best.time.value, best.behind_best) == (1.0, exact(0.0))
    assert other.time.value == 0.5, "half of it, in every round"
    behind = other.behind_best
    assert behind is not None
    paired = next(
        one.difference for one in compare.compare(folder, best.cell_id, other.cell_id) if one.metric == "map50_95"
    )
    assert paired is not None
    assert behind.value == pytest.approx(paired.value, abs=5e-5)
    assert (behind.low, behind.high) == pytest.approx((paired.low, paired.high), abs=5e-5)
    assert other.figures["loss"] == exact(0.0), "against its own model it loses nothing"
    assert [one.cell_id for one in steps(field, recommend(field.candidates, limits(), field.pairs))] == STEPS


def ask(folder: Path, *arguments: str) -> Any:
    return json.loads(bench("recommend", folder, "--format", "json", *arguments).said)


def test_command_report_and_home_give_one_front(folder: Path, tmp_path: Path) -> None:
    told = ask(folder)
    assert told["front"] == STEPS
    assert told["scope"] == {"model": ["demo", "s"], "imgsz": [320], "target": "cpu", "batch": 1, "threads": 2}
    assert any("PyTorch FP32 · s" in caveat for caveat in told["caveats"])
    data = reading.load(folder)
    decided = home.decide([data])
    assert [one.field.models for one in decided] == [("demo", "s"), ("demo",), ("s",)]
    assert [one.cell_id for one in steps(decided[0].field, decided[0].found)] == STEPS
    assert len({one.key for one in decided}) == 3
    page = build(folder, tmp_path / "report.html").read_text(encoding="utf-8")
    table = page.partition('<table class="steps stack">')[2].partition("</table>")[0]
    names = [re.sub("<.*?>", "", row.partition("</th>")[0]) for row in table.split('<th scope="row">')[1:]]
    assert names == ["OpenVINO INT8 · demo", "OpenVINO INT8 · s"]
    assert "model demo (0000000), s (fffffff)" in page
    one = ask(folder, "--model", "s")
    assert (one["scope"]["model"], one["scope"]["imgsz"], one["front"]) == ("s", 320, [])
    assert ask(folder, "--max-map-loss", "0.001")["front"] != STEPS


@pytest.mark.parametrize(("language", "apart"), [("en", ", "), ("zh", "、")])
def test_names_of_several_models_stand_apart_as_their_language_has_it(
    folder: Path, tmp_path: Path, language: Language, apart: str
) -> None:
    told = f"demo (0000000){apart}s (fffffff)"
    assert told in bench("show", folder, "--lang", language).said
    page = build(folder, tmp_path / "report.html", language=language).read_text(encoding="utf-8")
    assert told in page
    assert f"<h3>demo{apart}s" in page
    (decided,) = (one for one in home.decide([reading.load(folder)]) if one.field.several)
    site, words = (load(REPORTS / "locale" / name)[language] for name in ("site", "recommend"))
    assert home.answer(decided, matrix.load(), site, words).model.startswith(f"demo{apart}s")


def test_the_steps_carry_the_marks_that_their_options_have_in_the_figures(folder: Path, tmp_path: Path) -> None:
    mark = marks.marks(["pytorch", "openvino"])["openvino"]
    written = build(folder, tmp_path / "report.html").read_text(encoding="utf-8")
    for page in (written, pages.render(evidence.load([folder], MATRICES))["zh/index.html"]):
        table = page.partition('<table class="steps stack">')[2].partition("</table>")[0]
        assert table.count("<tr><th") - 1 == table.count('<svg class="mark') == len(STEPS)
        assert table.count(f'<svg class="mark f-c{mark.colour} s-c{mark.colour}"') == len(STEPS)
        assert table.count(f'<use href="#mark-{mark.shape}"/>') == len(STEPS)


@pytest.mark.parametrize(("language", "words"), [("en", "For the time you can spend"), ("zh", "按可用的时间")])
def test_the_terminal_shows_the_front(folder: Path, language: str, words: str) -> None:
    for columns in (60, 120):
        done = bench("recommend", folder, "--lang", language, columns=columns)
        assert done.code == 0
        assert words in done.said
        assert "OpenVINO INT8 · s" in done.said


def test_what_shared_no_round_with_the_best_is_named_and_not_ranked(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder, tmp_path / "run")
    alone = f"demo/openvino-fp32{POINT}"
    samples = store.read_table(run, "samples").astype({"cell_id": str})
    samples.loc[samples.cell_id == alone, "window"] = 1
    store.write_table(run, "samples", samples.to_dict("records"))
    (field,) = candidates.joint(reading.load(run))
    assert alone not in {one.cell_id for one in field.candidates}
    (passed,) = [one for one in field.passed if one.cell_id == alone]
    assert "not timed in the same rounds" in passed.reason


def test_sizes_are_chosen_from_as_models_are(folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(folder, tmp_path / "run")
    cells = store.read_table(run, "cells").astype(object)
    cells = cells.where(cells.notna(), None)
    cells.loc[cells.model == "s", "imgsz"] = 640
    store.write_table(run, "cells", cells.assign(model="demo").to_dict("records"))
    told = ask(run)
    assert told["scope"]["imgsz"] == [320, 640]
    assert told["front"] == STEPS


def test_cells_of_two_models_are_compared_by_their_whole_names(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"has several cells 'openvino-fp32'"):
        compare.compare(folder, "openvino-fp32", "s/openvino-fp32")
    found = {one.metric: one for one in compare.compare(folder, "s/openvino-fp32", "demo/openvino-fp32")}
    ratio = found["time"].ratio
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)


def test_a_check_of_several_models_names_them() -> None:
    ids = [f"{model}/onnx-fp32-cpu-320-b1-t1" for model in ("n", "s")]
    of_both = check.naming({"lines": [{"cell": cell} for cell in ids]})
    assert [of_both(cell) for cell in ids] == ["n/onnx-fp32-cpu-320", "s/onnx-fp32-cpu-320"]
    assert check.naming({"lines": [{"cell": ids[0]}]})(ids[0]) == "onnx-fp32-cpu-320"


# -- older runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["a" * 64, None])
def test_cells_of_older_runs_are_of_their_runs_one_model(tmp_path: Path, digest: str | None) -> None:
    facts = [] if digest is None else [{"scope": "run", "key": "model_sha256", "value": digest}]
    row = {"run_id": "r", "model": "n", "imgsz": 320, "batch": 1, "threads": 1}
    older.write(tmp_path, 3, "environment", [{"scope": "machine", "key": "model_sha256", "value": "no"}, *facts])
    older.write(tmp_path, 3, "cells", [row | {"cell_id": name} for name in ("n/a", "n/b")])
    assert store.read_table(tmp_path, "cells").model_sha256.replace({float("nan"): None}).tolist() == [digest] * 2


def test_a_baseline_is_of_the_very_models() -> None:
    facts = {"name": "main", "schema": store.SCHEMA_VERSION, "images": "16", "data_sha256": "d", "model": "n, s"}
    facts |= {"model_sha256": f"{'a' * 64}, {'b' * 64}"}
    baselines.require_comparable(facts, facts)
    with pytest.raises(UsageError, match=r"another model: n, s .*now n .*give the same --model"):
        baselines.require_comparable(facts, facts | {"model": "n", "model_sha256": "a" * 64})

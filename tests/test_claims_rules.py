"""The rules that keep a verdict from saying more than was measured, each with a case that would break it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from bench.decide.claims import evaluate, gate, registry
from bench.decide.claims.checks._common import near
from bench.decide.claims.checks.compatibility import MAKERS
from bench.decide.claims.evaluate import Judged
from bench.decide.claims.registry import CLAIMS
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import LAUNCHES, Results, Row, cell, paced, probe, reference, release, results
from bench.decide.claims.verdicts import KINDS, Estimate, Finding, Kind, Verdict, chance, judge, simultaneous
from bench.decide.claims.whole import confirmed, of_part, over_checks, over_parts
from bench.probes.interchange import READERS
from bench.reasons import UsageError
from bench.words.text import Text

WORDS = Text(en="Words.", zh="文字。")
S, P, R, M = Verdict.SUPPORTED, Verdict.PARTLY_SUPPORTED, Verdict.REFUTED, Verdict.MIXED
FOR, AGAINST = Verdict.INDICATED_FOR, Verdict.INDICATED_AGAINST
N, U, X = Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE, Verdict.NOT_MEASURABLE
EMULATED, IMITATED = "arm-cpu-emulated", "coreml-mil"
FASTER = {"check": "faster_than", "kind": "measured", "because": WORDS, "threshold": 1.0}


def part(name: str = "all", **columns: Any) -> dict[str, Any]:
    return {"id": name, "says": WORDS, **columns}


def claim(*checks: dict[str, Any], parts: Sequence[dict[str, Any]] | None = None, **columns: Any) -> Claim:
    """A claim about ONNX with these checks, by default about one part."""
    deciding = any(check["kind"] != "fact" for check in checks)
    values = {
        "id": "onnx.performance", "option": "onnx", "aspect": "performance", "section": "ONNX", "line": 1,
        "quote": "-", "english": "-", "reading": WORDS, "supports": WORDS, "refutes": WORDS, "checks": checks,
        "parts": parts if parts is not None else [part()] if deciding else [],
    }  # fmt: skip
    return Claim.model_validate(values | columns)


def check(name: str, kind: str = "measured", **parameters: Any) -> dict[str, Any]:
    return {"check": name, "kind": kind, "because": WORDS, **parameters}


def judged(asked: Claim, *rows: Row | Sequence[Row], stand_ins: frozenset[str] = frozenset()) -> Judged:
    tables = results(*rows).tables()
    words = replace(tables.words, emulates={EMULATED: "arm-cpu"}, stand_ins=stand_ins | {EMULATED})
    (found,) = evaluate.evaluate([asked], replace(tables, words=words))
    return found


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(CLAIMS.parent, tmp_path / "matrices") / "claims"


def refused(copied: Path, name: str, old: str, new: str) -> str:
    """What loading says after one edit of a file of claims."""
    path = copied / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        registry.load_claims(copied, gate.models())
    return str(error.value)


# 1. A proxy never decides


@pytest.mark.parametrize(
    ("age", "necessary", "verdict"),
    [(30.0, False, FOR), (900.0, False, AGAINST), (900.0, True, R), (30.0, True, FOR)],
)
def test_a_proxy_indicates_and_only_a_necessary_condition_that_fails_refutes(
    age: float, necessary: bool, verdict: Verdict
) -> None:
    asked = check("released_recently", "proxy", threshold=180, packages=["onnx"], necessary=necessary)
    found = judged(claim(asked), release("onnx", "1.0", age))
    assert found.verdict.verdict is verdict
    assert found.verdict.reason.en.startswith("By proxy: ")


def test_a_proxy_beside_what_is_measured_changes_nothing() -> None:
    asked = claim(FASTER, check("released_recently", "proxy", threshold=180, packages=["onnx"]))
    old = release("onnx", "1.0", 900)
    assert judged(asked, reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)), old).verdict.verdict is S
    assert (
        judged(asked, reference(), cell("onnx", ratio=(0.5, 0.4, 0.6)), release("onnx", "1.0", 3)).verdict.verdict is R
    )
    assert of_part([N], [AGAINST]) is AGAINST, "it is told where nothing measured decides"


def test_what_proxies_say_is_counted_apart_and_under_no_measured_verdict() -> None:
    proxied = claim(check("released_recently", "proxy", threshold=180, packages=["onnx"]))
    for age, verdict in ((3, FOR), (900, AGAINST)):
        found = judged(proxied, release("onnx", "1.0", age))
        assert evaluate.counts([found])[verdict] == 1
        assert sum(evaluate.counts([found]).values()) == 1
        assert KINDS[verdict] is Kind.PROXY
    assert {verdict for verdict, kind in KINDS.items() if kind is Kind.MEASURED} == {S, P, R, M}


WEAK = {
    Kind.PROXY: {"released_recently", "releases_per_year", "wheels_for", "wheels_only_for", "steady"},
    Kind.FACT: {"no_network", "data_only", "enumerates", "operators_covered", "scales"},
}


def test_what_counts_releases_or_lists_files_measures_nothing() -> None:
    strongest = {kind: {name for name, one in gate.CHECKS.items() if one.parameters.strongest is kind} for kind in Kind}
    assert {kind: strongest[kind] for kind in WEAK} == WEAK


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "pytorch.toml", 'check = "released_recently"\nkind = "proxy"',
            'check = "released_recently"\nkind = "measured"',
            "pytorch.maintenance: checks.1.kind: is 'measured'; released_recently is 'proxy' at most",
        ),
        (
            "paddle.toml", 'check = "scales"\nkind = "fact"', 'check = "scales"\nkind = "proxy"\npart = "competitive"',
            "paddle.performance: checks.3.kind: is 'proxy'; scales is 'fact' at most",
        ),
    ],
)  # fmt: skip
def test_a_check_is_worth_no_more_than_its_like(copied: Path, name: str, old: str, new: str, said: str) -> None:
    assert said in refused(copied, name, old, new)


# 2. All parts, or it is not supported


def test_a_part_that_nothing_decides_keeps_the_whole_from_being_supported_and_is_named() -> None:
    rest = part("rest", untested=WORDS, says=Text(en="on a server", zh="在服务器上"))
    asked = claim({**FASTER, "part": "fast"}, parts=[part("fast"), rest])
    found = judged(asked, reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)))
    assert found.verdict.verdict is P
    assert found.verdict.reason.en.endswith("untested here: on a server.")
    assert [one.verdict for one in found.parts] == [S, U]
    slow = judged(asked, reference(), cell("onnx", ratio=(0.5, 0.4, 0.6)))
    assert slow.verdict.verdict is R, "one part that is false makes the sentence false"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([S, S], S), ([S, X], P), ([S, U], P), ([S, N], P), ([S, FOR], P), ([S, R], M), ([R, U], R), ([P, R], M),
        ([FOR, U], FOR), ([FOR, AGAINST], N), ([AGAINST, X], AGAINST), ([N, U], N), ([U, X], U), ([X], X),
    ],
)  # fmt: skip
def test_the_whole_is_no_more_than_its_parts(parts: list[Verdict], verdict: Verdict) -> None:
    assert over_parts(parts) is verdict
    assert over_parts(parts[::-1]) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"), [([S, FOR], FOR), ([FOR, N], N), ([S, AGAINST], N), ([FOR, AGAINST], N), ([R, FOR], R)]
)
def test_checks_of_one_part_are_as_strong_as_the_weakest(found: list[Verdict], verdict: Verdict) -> None:
    assert over_checks(found) is verdict


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: claim(FASTER, parts=[]), "parts: are needed where a check decides"),
        (lambda: claim({**FASTER, "part": "fast"}, parts=[part("fast"), part("rest")]), "rest: needs a check"),
        (
            lambda: claim(FASTER, parts=[part("fast"), part("rest", untested=WORDS)]),
            "part is ''; there are: fast, rest",
        ),
        (lambda: claim(FASTER, not_measurable=WORDS), "and no other"),
        (lambda: claim(check("no_network", "fact")), "needs one of"),
        (lambda: claim(check("no_network", "fact", part="all"), not_measurable=WORDS), "a fact decides no part"),
        (lambda: claim({**FASTER, "necessary": True}), "necessary: is for a proxy"),
        (lambda: claim({**FASTER, "find": WORDS}), "find: is for a fact"),
        (lambda: claim(FASTER, parts=[part(untested=WORDS, not_measurable=WORDS)]), "and not both"),
    ],
)
def test_a_claim_that_leaves_a_part_out_cannot_be_written(build: Callable[[], Claim], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()


# 3. The thing named is the thing measured


def test_an_emulated_processor_indicates_and_a_real_one_decides() -> None:
    asked = claim(check("converts", threshold=1.0, scope={"targets": ["arm-cpu"]}))
    emulated, real = (cell("onnx", target=target, parity_box_p999=0.001) for target in (EMULATED, "arm-cpu"))
    assert judged(asked, reference(), emulated).verdict.verdict is FOR
    assert judged(asked, reference(), emulated, real).verdict.verdict is S
    wrong = cell("onnx", target=EMULATED, parity_box_p999=22.7)
    assert judged(asked, reference(), wrong).verdict.verdict is AGAINST
    interpreted = cell("onnx", target=IMITATED, parity_box_p999=0.001)
    anywhere = claim(check("converts", threshold=1.0))
    assert judged(anywhere, reference(), interpreted, stand_ins=frozenset({IMITATED})).verdict.verdict is FOR


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "coreml.toml", 'names = ["iOS", "macOS"]', 'names = ["iOS"]',
            "coreml.compatibility: parts: the words name macOS",
        ),
        (
            "mnn.toml", 'names = ["X86-64"]', 'names = ["X86-64", "移动"]',
            "mnn.compatibility: checks: converts: nothing here is 移动, which part 'x86' names",
        ),
        (
            "mnn.toml", 'part = "x86"\nthreshold = 1.0\nscope.precisions = ["fp32"]\nscope.targets = ["cpu"]',
            'part = "x86"\nthreshold = 1.0\nscope.precisions = ["fp32"]\nscope.targets = ["cpu", "arm-cpu"]',
            "looks at arm-cpu; part 'x86' names X86-64, which is cpu",
        ),
        (
            "onnx.toml", 'targets = ["cpu", "arm-cpu", "cuda"]', 'targets = ["cpu", "arm-cpu-emulated", "cuda"]',
            "arm-cpu-emulated only stands in for another target",
        ),
        (
            "saved_model.toml", 'scope.options = ["saved_model", "graphdef"', 'scope.options = ["graphdef"',
            "looks at graphdef, tflite, tfjs and not at saved_model",
        ),
        ("mnn.toml", 'names = ["X86-64"]', 'names = ["RISC-V"]', "names: unknown RISC-V"),
        ("document.toml", '"CUDA" = ["cuda"]', '"CUDA" = ["gpu"]', "things: unknown gpu; allowed: cpu"),
    ],
)  # fmt: skip
def test_what_stands_in_for_the_thing_named_cannot_be_said_to_measure_it(
    copied: Path, name: str, old: str, new: str, said: str
) -> None:
    assert said in refused(copied, name, old, new)


# 4. Every option that a statement names must have answered


def test_an_option_that_did_not_answer_keeps_the_others_from_speaking_for_it() -> None:
    asked = claim(check("converts", threshold=1.0, scope={"options": ["onnx", "tensorrt"]}), option="")
    answered = (reference(), cell("onnx", parity_box_p999=0.001))
    absent = cell("tensorrt", target="cuda", status="skipped", reason_code="target_absent")
    found = judged(asked, *answered, absent)
    assert found.verdict.verdict is P
    assert [(one.scope, one.verdict) for _, one in found.findings if one.needed] == [("tensorrt", U)]
    assert judged(asked, *answered, cell("tensorrt", target="cuda", parity_box_p999=0.001)).verdict.verdict is S
    proxy = claim(check("converts", "proxy", threshold=1.0, scope={"options": ["onnx", "tensorrt"]}), option="")
    assert judged(proxy, *answered, absent).verdict.verdict is U


def test_every_target_that_must_run_it_has_to() -> None:
    asked = claim(check("runs_on", targets=["cpu", "cuda"]))
    skipped = cell("onnx", target="cuda", status="skipped", reason_code="target_absent")
    assert judged(asked, reference(), cell("onnx"), skipped).verdict.verdict is P
    assert judged(asked, reference(), cell("onnx"), cell("onnx", target="cuda")).verdict.verdict is S


def test_a_part_needs_every_check_and_every_target_of_its_own() -> None:
    """Two kinds of processor make a range: one of them is not enough, however right it is there."""
    two = claim(
        check("runs_on", targets=["cpu", "arm-cpu"]), check("converts", threshold=1.0, scope={"targets": ["cpu"]})
    )
    right = cell("onnx", parity_box_p999=0.001)
    assert judged(two, reference(), right).verdict.verdict is P
    assert judged(two, reference(), right, cell("onnx", target="arm-cpu")).verdict.verdict is S


# 5. Independent means independent


def test_two_runtimes_of_one_maker_are_one_and_a_converter_is_none() -> None:
    asked = claim(check("opened_by", threshold=3))
    names = ("onnxruntime", "onnxruntime-web", "openvino", "mnn", "ncnn", "paddle", "tensorflow", "tflite")
    seen = [probe("interchange", "onnx", name, "yes") for name in names]
    found = judged(asked, *seen)
    assert (found.verdict.verdict, found.verdict.value) == (R, 2.0)
    assert judged(asked, *seen, probe("interchange", "onnx", "opencv-dnn", "yes")).verdict.verdict is S
    assert judged(asked, *seen, probe("interchange", "onnx", "opencv-dnn", "unavailable")).verdict.verdict is N


def test_every_reader_without_a_converter_has_a_maker() -> None:
    assert {"onnxruntime", *(one.name for one in READERS if not one.steps)} == set(MAKERS)


# 6. A comparison uses what reads it


def test_only_runtimes_of_the_very_same_file_are_compared() -> None:
    scope = {"options": ["onnx", "ort-web", "paddle"]}
    first, slow = paced("pytorch", 80), paced("paddle", 78, artifact_sha256="another")
    own = [paced(name, ms, artifact_sha256="one") for name, ms in (("onnx", 40), ("ort-web", 41))]
    loose, strict = (
        claim(check("depends_on_runtime", threshold=1.25, scope=scope, same_file=same), option="")
        for same in (False, True)
    )
    assert judged(loose, first, slow, *own).verdict.verdict is S
    assert judged(strict, first, slow, *own).verdict.value == pytest.approx(41 / 40, rel=0.05)
    assert judged(strict, first, slow, *own).verdict.verdict is not S
    web = paced("ort-web", 90, artifact_sha256="one")
    assert judged(strict, first, slow, own[0], web).verdict.verdict is S


# 7. A maximum, a rank, many places: corrected


def test_thirteen_options_equal_to_pytorch_are_seldom_said_to_hold_a_faster_one() -> None:
    """Normal log ratios around zero: the largest of thirteen is above zero at 2.5 % in 1 - 0.975^13 = 28 % of runs."""
    draw = np.random.Generator(np.random.PCG64(1))
    alone = corrected = 0
    runs, options, error = 1500, 13, 0.02
    for logs in draw.normal(0.0, error, (runs, options)):
        best = math.exp(logs.max())
        half = math.exp(1.959964 * error)
        estimate = Estimate(best, best / half, best * half, freedom=math.inf)
        alone += judge(estimate, 1.0, "above") is S
        corrected += judge(simultaneous(estimate, options), 1.0, "above") is S
    assert alone / runs == pytest.approx(0.28, abs=0.035)
    assert corrected / runs < 0.04, "2.5 % and three standard errors of 1500 runs"


@pytest.mark.parametrize("name", ["some_option_faster", "ranks_first", "depends_on_runtime"])
def test_a_check_that_picks_from_many_needs_more_than_one_that_has_no_choice(name: str) -> None:
    """An interval that ends half a per cent above 1 decides alone, and is luck as the largest of thirteen."""
    others = [f"option{n}" for n in range(12)]
    close, exact = (1.1, 1.005, 1.204), (1.0, 1.0, 1.0)
    first = {"some_option_faster": "pytorch", "ranks_first": "onnx", "depends_on_runtime": ""}[name]

    def found(many: list[str]) -> tuple[Verdict, float]:
        scope = {"options": ["pytorch", "onnx", *many] if name == "depends_on_runtime" else []}
        asked = claim(check(name, threshold=1.0, scope=scope), option=first)
        rows = [reference(), cell("onnx", ratio=close), *(cell(other, ratio=exact) for other in many)]
        one = judged(asked, *rows).verdict
        assert one.low is not None
        return one.verdict, one.low

    verdict, low = found([])
    assert verdict is S
    assert low == pytest.approx(1.005, abs=0.001)
    verdict, low = found(others)
    assert verdict is N
    assert low < 1.0, "the interval that is shown is that of all of them at once"


@pytest.mark.parametrize(
    ("name", "many", "columns"),
    [
        ("some_option_faster", 13, {}),
        ("some_option_faster", 13, {"at_most": 1.5}),
        ("depends_on_runtime", 14 * 13 / 2, {}),
    ],
)
def test_the_chance_of_one_that_was_picked_is_that_of_any_of_them(
    name: str, many: float, columns: dict[str, Any]
) -> None:
    """By it the statement's places are weighed together: the largest of thirteen, or one of the pairs of fourteen.

    With `at_most` it is the nearer limit's: 1.4 is sure to be above 1, and not to be below 1.5.
    """
    others = [f"option{n}" for n in range(12)]
    first = "" if name == "depends_on_runtime" else "pytorch"

    def known(beside: list[str]) -> float:
        scope = {"options": [] if first else ["pytorch", "onnx", *beside]}
        asked = claim(check(name, threshold=1.0, scope=scope, **columns), option=first)
        rows = [
            reference(),
            cell("onnx", ratio=(1.4, 1.3, 1.508)),
            *(cell(one, ratio=(1.0, 1.0, 1.0)) for one in beside),
        ]
        chances = [one.chance for _, one in judged(asked, *rows).findings if one.chance is not None]
        assert len(chances) == 1
        return chances[0]

    assert known(others) == pytest.approx(many * known([]))


@pytest.mark.parametrize("freedom", [2, 5, math.inf])
def test_a_simultaneous_interval_ends_where_the_chance_of_one_of_many_does(freedom: float) -> None:
    estimate = Estimate(2.0, 1.6, 2.5, freedom=freedom)
    wide = simultaneous(estimate, 13)
    assert wide.low is not None
    assert wide.high is not None
    assert 13 * (chance(estimate, wide.low) or 0) == pytest.approx(0.05)
    assert 13 * (chance(estimate, wide.high) or 0) == pytest.approx(0.05)
    assert simultaneous(estimate, 1) == estimate
    assert simultaneous(Estimate(2.0, 2.0, 2.0), 13) == Estimate(2.0, 2.0, 2.0)
    signed = simultaneous(Estimate(-0.01, -0.03, 0.01, freedom=freedom), 13)
    assert 13 * (chance(Estimate(-0.01, -0.03, 0.01, freedom=freedom), signed.high or 0) or 0) == pytest.approx(0.05)


def test_thirty_places_at_a_true_null_are_seldom_decided() -> None:
    """Alone, one of thirty is decided in 1 - 0.95^30 = 79 % of runs; together in at most 5 %."""
    draw = np.random.Generator(np.random.PCG64(2))
    alone = together = 0
    runs, places, error = 400, 30, 0.02
    for logs in draw.normal(0.0, error, (runs, places)):
        findings = []
        for value in np.exp(logs):
            estimate = Estimate(
                value, value * math.exp(-1.959964 * error), value * math.exp(1.959964 * error), freedom=math.inf
            )
            findings.append(Finding(judge(estimate, 1.0, "above"), WORDS, chance=chance(estimate, 1.0)))
        alone += any(one.verdict is not N for one in findings)
        together += any(one.verdict is not N for one in confirmed([findings])[0])
    assert alone / runs == pytest.approx(0.79, abs=0.07)
    assert together / runs < 0.09, "5 % and three and a half standard errors of 400 runs"


def test_a_rank_among_many_needs_intervals_that_hold_for_all_of_them() -> None:
    """Two whose intervals leave room between them are in order, and not sure to be where there are thirteen."""

    def started(option: str, ms: float, low: float, high: float) -> Row:
        return cell(option, import_ms=ms, import_ms_low=low, import_ms_high=high, latency_launches=8)

    def found(many: int) -> Verdict:
        asked = claim(check("ranks_smallest", top=1, quantity="import_ms"))
        others = [started(f"option{n}", 115.0, 110.0, 120.2) for n in range(many)]
        return judged(asked, started("onnx", 100.0, 95.0, 105.0), *others).verdict.verdict

    assert found(1) is S
    assert found(12) is N


def test_checks_of_one_statement_are_weighed_together() -> None:
    """Ten places with one at 0.4 % decide by one check (Holm: 4 %); with another check beside it they are twenty."""
    wanted, places = 0.004, 10
    quantile = float(t.isf(wanted / 2, LAUNCHES - 1) / t.isf(0.025, LAUNCHES - 1))
    width = math.exp(math.log(1.1) / quantile)
    rows = [
        row
        for n in range(places)
        for row in (
            reference(batch=n + 1),
            cell("onnx", ratio=(1.0, 0.9, 1.11) if n else (1.1, 1.1 / width, 1.1 * width), batch=n + 1),
        )
    ]
    beside = check("not_slower_than", threshold=1.0)
    assert judged(claim(FASTER), *rows).verdict.verdict is S
    assert judged(claim(beside), *rows).verdict.verdict is S
    assert judged(claim(FASTER, beside), *rows).verdict.verdict is N


# 8. Near a threshold nothing is decided


def test_one_reading_of_memory_close_to_a_half_decides_nothing() -> None:
    asked = claim(check("smaller_than", threshold=0.5, quantity="peak_rss_bytes"))

    def found(own: int) -> Verdict:
        rows = reference(peak_rss_bytes=10_000), cell("onnx", peak_rss_bytes=own)
        return judged(asked, *rows).verdict.verdict

    assert found(4_994) is N
    assert found(4_600) is N, "two readings good for a tenth each are not surely below a half at 0.46"
    assert found(2_000) is S
    assert found(9_000) is R
    over_launches: dict[str, Any] = {"peak_rss_bytes_low": 4_900, "peak_rss_bytes_high": 4_960, "latency_launches": 8}
    rows = (
        reference(peak_rss_bytes=10_000, peak_rss_bytes_low=9_990, peak_rss_bytes_high=10_010, latency_launches=8),
        cell("onnx", peak_rss_bytes=4_930, **over_launches),
    )
    assert judged(asked, *rows).verdict.verdict is S, "intervals over launches decide as close as they are narrow"


@pytest.mark.parametrize(
    ("days", "verdict"),
    [([30, 100, 200, 300], N), ([30, 100, 200], N), ([30, 100], AGAINST), ([9, 30, 100, 200, 300], FOR)],
)
def test_a_release_more_or_less_decides_nothing(days: list[float], verdict: Verdict) -> None:
    """Four a year are asked for: with three or four, the day on which the year is cut decides."""
    asked = claim(check("releases_per_year", "proxy", threshold=4, packages=["onnx"]))
    rows = [row for n, age in enumerate(sorted(days, reverse=True)) for row in release("onnx", f"1.{n}", age)]
    assert judged(asked, rows).verdict.verdict is verdict


@pytest.mark.parametrize(("age", "verdict"), [(149, FOR), (178, N), (205, N), (262, AGAINST)])
def test_a_month_more_or_less_decides_nothing(age: float, verdict: Verdict) -> None:
    asked = claim(check("released_recently", "proxy", threshold=180, packages=["onnx"]))
    found = judged(asked, release("onnx", "1.0", age)).verdict
    assert found.verdict is verdict
    assert ("Too near the threshold." in found.reason.en) == (verdict is N)


def test_what_has_an_interval_is_left_as_it_is() -> None:
    estimate = Estimate(178.0, 170.0, 186.0)
    assert near(estimate, "days") == estimate
    assert near(Estimate(3.0, 3.0, 3.0), "runtimes") == Estimate(3.0, 3.0, 3.0), "what was counted one by one is exact"


# 9 and 10. Facts


def test_a_second_thread_can_be_nothing_but_a_fact_in_any_registered_claim() -> None:
    kinds = {own.kind for one in registry.load_claims() for own in one.checks if own.check == "scales"}
    assert kinds == {Kind.FACT}


def test_a_find_is_of_the_registered_claims_and_names_package_moment_and_remedy() -> None:
    finds = [own.find for one in registry.load_claims() for own in one.checks if own.find is not None]
    assert finds, "what was found stands first on the guide's page"
    for words in (finds[0].en, finds[0].zh):
        assert "openvino-telemetry" in words
        assert "www.google-analytics.com" in words
        assert "`opt_in_out --opt_out`" in words


def test_a_fact_is_told_and_changes_no_verdict() -> None:
    threads = [paced("pytorch", 80), paced("pytorch", 45, threads=2), paced("onnx", 40), paced("onnx", 39, threads=2)]
    told = check("scales", "fact", axis="threads")
    asked = claim(FASTER, told)
    found = judged(asked, *threads)
    assert found.verdict == judged(claim(FASTER), *threads).verdict
    (fact,) = (one for own, one in found.findings if own.kind is Kind.FACT)
    assert (fact.verdict, fact.threshold) == (Verdict.FACT, None)
    assert fact.value == pytest.approx(40 / 39, rel=0.05)
    alone = judged(claim(told, untested=WORDS), *threads).verdict
    assert (alone.verdict, alone.reason) == (U, WORDS)


def test_a_fact_is_held_against_no_threshold_and_everything_else_is(copied: Path) -> None:
    fact = 'check = "wheels_for"\nkind = "fact"'
    said = refused(copied, "pytorch.toml", fact, f"{fact}\nthreshold = 4")
    assert "pytorch.compatibility: checks.1.threshold: a fact is held against none" in said
    shutil.copy(CLAIMS / "pytorch.toml", copied)
    assert "threshold: required" in refused(copied, "pytorch.toml", "threshold = 120\n", "")


@pytest.mark.parametrize(("outcome", "finds"), [("no", (WORDS,)), ("yes", ())])
def test_what_a_fact_has_to_say_is_said_where_it_does_not_hold(outcome: str, finds: tuple[Text, ...]) -> None:
    asked = claim(check("no_network", "fact", find=WORDS), not_measurable=WORDS)
    found = judged(asked, probe("no_network", "onnx", "connections", outcome))
    assert found.finds == finds
    assert found.verdict.verdict is X
    assert [one.verdict for _, one in found.findings] == [Verdict.FACT]


def test_a_fact_that_nobody_knows_is_not_told() -> None:
    assert judged(claim(check("no_network", "fact"), not_measurable=WORDS), reference()).findings == ()


# The registered claims


def test_the_reason_is_there_wherever_nothing_decides() -> None:
    for one in registry.load_claims(models=gate.models()):
        assert bool(one.deciding) == bool(one.parts), one.id
        for own in one.parts:
            assert own.why is not None or one.checks_of(own), one.id


def test_results_order_changes_no_verdict_of_parts() -> None:
    asked = claim({**FASTER, "part": "fast"}, parts=[part("fast"), part("rest", not_measurable=WORDS)])
    rows = results(reference(), cell("onnx", ratio=(2.0, 1.9, 2.1)))
    (one,) = evaluate.evaluate([asked], rows.tables())
    (other,) = evaluate.evaluate([asked], Results(rows.rows[::-1]).tables())
    assert one == other

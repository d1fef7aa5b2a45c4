"""The update that moved a metric: the search, locks between two locks, and looks at real guests that are kept."""

from __future__ import annotations

import json
import math
import random
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from running import bench
from test_envs import wheels, write_wheel  # noqa: F401 - a fixture
from test_pairs import ADAPTER, X, side

from bench.check import bisect
from bench.check import looks as looks_of
from bench.check.looks import Compared, Direction, Looks, Timed
from bench.check.states import State
from bench.decide.bisect import Outcome, Smallest, Span, between, smallest
from bench.decide.gate import Verdict
from bench.environments.pinned import ABSENT, Unresolvable, Update, holds, mixed, updates, version_in
from bench.grid.schema import Deadlines
from bench.measure.contest import Contest
from bench.measure.pairs import BASE, CANDIDATE, Conditions, Side, Turns, run_pair
from bench.progress import Reporter
from bench.reasons import StoreError, UsageError
from bench.report import bisect as report
from bench.stats.change import Change
from bench.store import looks as kept
from bench.words.locale import texts

EN = texts("terminal", "en")

# -- the search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 9, 100])
def test_every_step_is_found_in_as_many_looks_as_halving_takes(number: int) -> None:
    for step in range(1, number):
        asked: list[int] = []

        def look(place: int, step: int = step, asked: list[int] = asked) -> Outcome:
            asked.append(place)
            return Outcome.MOVED if place >= step else Outcome.SAME

        assert between(number, look) == Span(step - 1, step, ())
        assert len(asked) == len(set(asked))
        assert len(asked) <= math.ceil(math.log2(number - 1)), "n - 2 are open: log2(n - 1) looks"


def test_what_cannot_be_told_is_passed_by_and_left_in_the_answer() -> None:
    told = {4: Outcome.UNDECIDED, 3: Outcome.UNTESTABLE, 5: Outcome.MOVED, 2: Outcome.SAME}
    assert between(9, lambda place: told[place]) == Span(2, 5, (3, 4)), "2 is as before, 5 moved, between them nothing"
    # What was passed by outside the final span is no doubt of the answer's.
    told = {4: Outcome.UNDECIDED, 3: Outcome.MOVED, 1: Outcome.SAME, 2: Outcome.SAME}
    assert between(9, lambda place: told[place]) == Span(2, 3, ())
    with pytest.raises(ValueError, match="two ends"):
        between(1, lambda _place: Outcome.SAME)


@pytest.mark.parametrize("cause", range(16))
def test_one_cause_of_many_is_found_in_a_logarithmic_number_of_looks(cause: int) -> None:
    asked: list[frozenset[int]] = []

    def look(some: frozenset[int]) -> Outcome:
        asked.append(some)
        return Outcome.MOVED if cause in some else Outcome.SAME

    assert smallest(range(16), look) == Smallest((cause,), ())
    assert len(asked) == len(set(asked))
    assert len(asked) <= 2 * math.log2(16)


def test_causes_that_need_each_other_are_found_together() -> None:
    found = smallest("abcdefgh", lambda some: Outcome.MOVED if {"b", "g"} <= some else Outcome.SAME)
    assert found == Smallest(("b", "g"), ())
    with pytest.raises(ValueError, match="no items"):
        smallest("", lambda _some: Outcome.SAME)


def test_impossible_combinations_are_told_apart_and_what_they_hide_is_doubtful() -> None:
    def needs(some: frozenset[str]) -> Outcome:
        # c moves it, and cannot be had without d.
        if "c" in some and "d" not in some:
            return Outcome.UNTESTABLE
        return Outcome.MOVED if "c" in some else Outcome.SAME

    assert smallest("abcd", needs) == Smallest(("c", "d"), ("d",)), "c alone cannot be tried, so d may not be needed"

    def noisy(some: frozenset[str]) -> Outcome:
        return Outcome.MOVED if {"a", "b"} <= some else Outcome.UNDECIDED if some else Outcome.SAME

    assert set(smallest("ab", noisy).doubtful) == {"a", "b"}


# -- versions and locks --------------------------------------------------------------------------------------------


def test_versions_stand_in_order_from_the_good_to_the_bad_one() -> None:
    known = ["1.9", "1.10", "1.2", "2.0", "1.10.1"]
    assert bisect.row("1.2", "1.10.1", known) == ["1.2", "1.9", "1.10", "1.10.1"]
    assert bisect.row("1.10.1", "1.2", known) == ["1.10.1", "1.10", "1.9", "1.2"]
    with pytest.raises(UsageError, match="one version"):
        bisect.row("1.0", "1.0.0", known)
    with pytest.raises(UsageError, match="'newest' is no version"):
        bisect.row("newest", "1.2", known)
    assert [bisect._released(name) for name in ("1.0", "1.0rc1", "1.0.dev3", "2004d-x!")] == [True, False, False, False]


def test_without_an_index_the_versions_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple/")
    with pytest.raises(UsageError, match=r"cannot be read.*--versions"):
        bisect.releases("onnxruntime")


def test_a_lock_between_two_holds_the_chosen_updates_and_nothing_else(wheels: Path) -> None:  # noqa: F811 - the fixture
    for name, version, requires in (
        ("probe", "2.0", "helper>=2"),
        ("helper", "1.0", None),
        ("helper", "2.0", None),
        ("other", "1.0", None),
        ("other", "2.0", "added"),
        ("added", "1.0", None),
        ("added", "2.0", None),
    ):
        write_wheel(wheels, version, name, requires=requires)
    good = "helper==1.0\nother==1.0\nprobe==1.0\n"
    bad = "added==1.0\nhelper==2.0\nother==2.0\nprobe==2.0\n"
    found = updates("small", good, bad)
    assert found == [
        Update("small", "added", ABSENT, "1.0"),
        Update("small", "helper", "1.0", "2.0"),
        Update("small", "other", "1.0", "2.0"),
        Update("small", "probe", "1.0", "2.0"),
    ]
    assert mixed("small", good, bad, []) == good
    assert mixed("small", good, bad, [one.name for one in found]) == bad
    assert mixed("small", good, bad, ["helper"]) == "helper==2.0\nother==1.0\nprobe==1.0\n"
    # What is needed comes in as the other lock has it, although a newer one is there.
    assert mixed("small", good, bad, ["other"]) == "added==1.0\nhelper==1.0\nother==2.0\nprobe==1.0\n"
    with pytest.raises(Unresolvable, match=r"no set of versions for small with probe 2\.0"):
        mixed("small", good, bad, ["probe"])
    assert holds(bad, "Added")
    assert (version_in(bad, "helper"), version_in(good, "added")) == ("2.0", ABSENT)


@pytest.mark.usefixtures("wheels")
def test_an_index_that_is_down_is_no_impossible_combination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(UsageError, match="check the network") as problem:
        mixed("small", "probe==1.0\nzeta==1.0\n", "probe==1.0.1\nzeta==1.1\n", ["zeta"])
    assert not isinstance(problem.value, Unresolvable)


def test_a_lock_that_is_not_resolved_has_its_lines_exchanged() -> None:
    header = "# bench: no-deps"
    good, bad = f"{header}\na==1\nb==1 ; sys_platform == 'linux'\n", f"{header}\na==2\nb==2 ; sys_platform == 'linux'\n"
    assert mixed("small", good, bad, ["b"]) == f"{header}\na==1\nb==2 ; sys_platform == 'linux'\n"
    assert version_in(bad, "b") == "2"


# -- looks at real guests ------------------------------------------------------------------------------------------

BROKEN = "import os\ndef load(spec):\n    os._exit(3)\n"
SPEEDS = {"1.0": (10.0, 0.004), "1.1": (10.0, 0.004), "1.2": (9.0, 1.0), "1.3": (8.0, 0.004), "1.4": (8.0, 0.004)}
"""Milliseconds and their spread over processes: 1.2 is too noisy to tell, and the guest of 1.1 dies."""
PATIENT, IMPATIENT = 5.0, 0.05
"""Minutes: more than the others need, and too few for what needs more than there could be."""


def state(version: str) -> State:
    return State(version, Path(), {"lock": version}, f"probe=={version}")


class Paced:
    """Pairs of real guests with a clock of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "broken.py").write_text(BROKEN, encoding="utf-8")

    def compare(self, base: State, candidate: State, margin: float, place: Path, *, either: bool) -> Compared:
        minutes = IMPATIENT if "1.2" in (base.label, candidate.label) else PATIENT
        quiet = Reporter(Console(quiet=True), enabled=False)
        timed = Timed("cell", self._side, self._contest, self._again, minutes, quiet, huge=False)
        return timed.compare(base, candidate, margin, place, either=either)

    @property
    def launches(self) -> int:
        return (self._folder / "launches").stat().st_size

    def _side(self, one: State) -> Side:
        ms, process = SPEEDS[one.label]
        made = side(one.label, ms, process, self._folder / "broken.py" if one.label == "1.1" else ADAPTER)
        made.spec["options"]["launches"] = str(self._folder / "launches")
        return replace(made, variables={**made.variables, "HOME": str(self._folder)})  # where it may write

    @staticmethod
    def _contest(sides: tuple[Side, Side], margin: float, log: Path) -> Contest:
        conditions = Conditions(X, [], 1, Deadlines(), log, inferences=8)
        both = dict(zip((BASE, CANDIDATE), sides, strict=True))
        pair = partial(run_pair, both, conditions, random.Random(7))  # noqa: S311 - an order of turns
        return Contest("cell", pair, {"latency": margin})

    @staticmethod
    def _again(base: State, candidate: State, margin: float, pairs: int | None) -> str:
        return f"ab {base.side} {candidate.side} {margin:.3f} {pairs}"


def search(guests: Paced, folder: Path) -> tuple[Looks, Span]:
    """Which of 1.0 to 1.3 became faster."""
    names = list(SPEEDS)[:4]
    looks = Looks(guests, "latency", state(names[0]), state(names[-1]), 1.0, folder)
    ends = looks.ends(0.003, Direction.EITHER)
    assert (ends.outcome, ends.direction) == (Outcome.MOVED, Direction.BETTER)
    assert ends.change is not None
    assert ends.change.value == pytest.approx(0.8, abs=0.01)
    # Half of what lies between the two, as a ratio: the root of 10 / 8.
    assert looks.margin == pytest.approx(math.sqrt(10 / 8) - 1, abs=0.01)
    return looks, between(len(names), lambda place: looks.at(state(names[place])))


def test_what_became_faster_is_found_among_noisy_and_broken_versions_and_not_measured_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These guests have a clock of their own, and wait for nobody who takes times.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    guests, folder = Paced(tmp_path), tmp_path / "kept"
    looks, span = search(guests, folder)
    assert span == Span(0, 3, (1, 2)), "the range is kept, with what no look could tell in it"
    told = {look.label: look for look, _ in looks.steps}
    outcomes = {"1.3": Outcome.MOVED, "1.1": Outcome.UNTESTABLE, "1.2": Outcome.UNDECIDED}
    assert {name: look.outcome for name, look in told.items()} == outcomes
    assert told["1.3"].pairs == 12, "six that make it a suspect, six that confirm it"
    assert "the guest of 1.1 failed" in told["1.1"].why

    # Between the ends the faster one is the base, so that the gate asks what it asks of an update: is the other slower?
    assert looks.at(state("1.4")) is Outcome.MOVED
    moved, known = looks.steps[-1]
    assert not known
    assert moved.again == f"ab probe==1.4 probe==1.0 {looks.margin:.3f} 6"
    assert moved.change is not None
    assert moved.change.value == pytest.approx(0.8, abs=0.01), "over the good one, whichever was the candidate"
    (pairs,) = folder.glob("*-1.4-*/*/facts.json")
    assert json.loads(pairs.read_text())["sides"]["base"]["label"] == "1.4"
    assert (pairs.parent / "pairs.parquet").is_file()

    # What has the packages of an end is that end, and what cannot be made is noted.
    before = guests.launches
    assert looks.at(replace(state("1.0"), label="other")) is Outcome.SAME
    assert looks.at(replace(state("1.3"), label="another")) is Outcome.MOVED
    assert looks.untestable("x", "no such versions") is Outcome.UNTESTABLE
    assert guests.launches == before

    # The same once more: what was told is known, and only what could not be tested is tried anew.
    again, span = search(guests, folder)
    assert span == Span(0, 3, (1, 2))
    assert {look.label: known for look, known in again.steps} == {"1.3": True, "1.1": False, "1.2": True}
    assert guests.launches - before <= 1, "the good one's guest, beside that which dies"

    look = next(folder.glob("*-1.4-*/look.json"))
    look.write_text("[]", encoding="utf-8")
    with pytest.raises(StoreError, match=r"look\.json: no look of a bisection.*delete"):
        Looks(guests, "latency", state("1.0"), state("1.3"), 1.0, folder)


def test_what_is_the_same_in_both_directions_has_not_moved() -> None:
    one = Contest("cell", lambda: pytest.fail("no more pairs"), {"latency": 0.01})
    for ratio, verdict in ((1.0, Verdict.SAME), (0.99, Verdict.UNDECIDED)):
        # Eight pairs half a per cent around the ratio: surely not slower, and by a hundredth perhaps faster.
        one.screened = [turns(10.0, 10.0 * ratio * (1 + 0.005 * sign)) for sign in (-1, 1) * 4]
        assert one.change() is Change.OK
        assert looks_of._verdict(one, either=True) is verdict
        assert looks_of._verdict(one, either=False) is Verdict.SAME


def turns(base: float, candidate: float) -> Turns:
    return Turns(np.array([base]), np.array([candidate]), (BASE,), {})


def test_a_look_that_was_stopped_is_none(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000-x").mkdir()
    assert not list(kept.read(tmp_path))


# -- words and the command -----------------------------------------------------------------------------------------


def facts(**answer: object) -> dict[str, object]:
    return {"metric": "latency", "direction": "worse", "good": "a==1", "bad": "a==9", "margin": 0.1, "answer": answer}


@pytest.mark.parametrize(
    ("told", "headline", "advice"),
    [
        (
            facts(kind="version", same="a==3", moved="a==4", passed=[]),
            "latency became worse between a==3 and a==4",
            "Safe is a==3",
        ),
        (
            facts(kind="version", same="a==3", moved="a==6", passed=["a==4", "a==5"]),
            "latency became worse between a==3 and a==6, in one of the steps between them",
            "Not known: a==4 and a==5.",
        ),
        (
            facts(
                kind="packages",
                set=[{"family": "onnx", "name": "a", "before": "1", "after": "2"}],
                doubtful=[],
                rest="same",
                differing=5,
            ),
            "latency became worse by a from 1 to 2 in onnx",
            "Without that, the other 4 updates leave it as it was.",
        ),
        (facts(kind="none", outcome="same"), "latency does not differ for the worse between a==1 and a==9", ""),
        (facts(kind="none", outcome="undecided"), "latency is not known to differ for the worse between", ""),
    ],
)
def test_the_answer_says_what_is_known_and_what_is_not(told: dict[str, object], headline: str, advice: str) -> None:
    assert report.headline(told, EN).startswith(headline)
    assert advice in " ".join(report.advice(told, EN))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metric", "latenzy"), "did you mean latency?"),
        (("--versions", "1.0,1.1"), "name it with --package"),
        (
            ("--package", "tensorflow", "--versions", ""),
            "tensorflow: no environment of this cell holds it; looked in onnx,",
        ),
        ((), "current and current have the same locks of onnx, export-torch"),
    ],
)
def test_what_cannot_be_bisected_is_wrong_usage(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    cell = ("--options", "onnx", "--precisions", "fp32", "--targets", "cpu", "--imgsz", "160")
    done = bench("bisect", *cell, "--good", "current", *words, "--results", tmp_path / "runs")
    assert done.code == 2
    assert said in " ".join(done.said.split())

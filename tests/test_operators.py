"""Which operators grew: told by guests, merged, held against each other, stored and printed."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.decide.operators import difference, facts, operator_counts
from bench.environments.locked import Env
from bench.grid.request import Request
from bench.grid.schema import Deadlines
from bench.measure.operators import Profiles, least, profile
from bench.measure.pairs import BASE, CANDIDATE, Conditions, Side
from bench.reasons import CellProblem, Reason
from bench.report.operators import print_operators
from bench.store import operators as stored
from bench.wall.worker import Operator, Worker

GUESTS = Path(__file__).parent / "guests"
X = np.zeros((1, 3, 10, 10), np.float32)
CONV = {"name": "conv", "type": "Conv", "ms": 2.0}
NAN = math.nan


def spec(**options: Any) -> dict[str, Any]:
    manifest = {"output": {"layout": "channels_first", "units": "px", "shape": [1, 6, 5]}}
    return {"manifest": manifest, "imgsz": 10, "target": "cpu", "options": options}


def told(*tell: Any, n: int = 4, adapter: str = "profiled", **options: Any) -> list[Operator] | None:
    """What the core makes of what a guest tells."""
    with Worker(Path(sys.executable), GUESTS / f"{adapter}.py", variables={"PATH": os.environ["PATH"]}) as guest:
        guest.load(spec(tell=tell, **options))
        guest.infer(X)
        return guest.profile(n)


def test_operators_reach_the_core_as_they_were_told() -> None:
    assert told([CONV, {"name": "act", "type": "Sigmoid", "ms": "n"}], n=7) == [
        Operator("conv", "Conv", 2.0),
        Operator("act", "Sigmoid", 7.0),  # so the number of inferences reaches the adapter
    ]


@pytest.mark.parametrize("adapter", ["linear", "profiled"])
def test_a_runtime_that_cannot_tell_is_no_error(adapter: str) -> None:
    assert told(None, adapter=adapter) is None


@pytest.mark.parametrize(
    "rubbish",
    [
        [],
        "Conv",
        {"conv": 2.0},
        ["conv"],
        [{"name": "conv", "type": "Conv"}],
        [{"name": "conv", "type": "Conv", "ms": None}],
        [CONV, {"name": "conv", "type": "Conv", "ms": -1.0}],
        [{"name": "conv", "type": "Conv", "ms": NAN}],
        [{"name": "conv", "type": "Conv", "ms": math.inf}],
        [{"name": 7, "type": "Conv", "ms": 1.0}],
        [{"name": "conv", "type": "", "ms": 1.0}],
    ],
    ids=repr,
)
def test_rubbish_is_a_breach_of_the_protocol(rubbish: Any) -> None:
    with pytest.raises(CellProblem, match="does not fit") as problem:
        told(rubbish)
    assert problem.value.reason is Reason.PROTOCOL


def test_an_adapter_that_raises_is_told_and_goes_on_serving() -> None:
    with Worker(Path(sys.executable), GUESTS / "profiled.py", variables={"PATH": os.environ["PATH"]}) as guest:
        guest.load(spec(error="no profiler in this build"))
        with pytest.raises(CellProblem, match="before any infer"):
            guest.profile(1)
        guest.infer(X)
        with pytest.raises(CellProblem, match="no profiler in this build") as problem:
            guest.profile(1)
        assert problem.value.reason is Reason.INFERENCE_FAILED
        assert guest.infer(X).shape == (1, 6, 5)


def sides(base: Any, candidate: Any, adapter: str = "profiled") -> dict[str, Side]:
    env = Env("family", Path(sys.executable), Path(sys.prefix), "0" * 64, 0)
    path, variables = GUESTS / f"{adapter}.py", {"PATH": "/usr/bin:/bin"}
    return {
        BASE: Side("a", env, path, spec(**base), variables),
        CANDIDATE: Side("b", env, path, spec(**candidate), variables),
    }


def profiled(tmp_path: Path, both: dict[str, Side]) -> Profiles:
    return profile(both, Conditions(X, [], 1, Deadlines(), tmp_path / "guests.log"))


def test_a_disturbed_profile_does_not_count(tmp_path: Path) -> None:
    disturbed = {**CONV, "ms": 50.0}
    found = profiled(tmp_path, sides({"tell": [[disturbed], [CONV]]}, {"tell": [[CONV], [disturbed], [CONV]]}))
    assert found.why == ""
    assert found.sides == {BASE: [Operator("conv", "Conv", 2.0)], CANDIDATE: [Operator("conv", "Conv", 2.0)]}


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ({"error": "no profiler in this build"}, "no profiler in this build"),
        ({"tell": [None]}, "profiled does not tell its operators on cpu"),
        ({"tell": [[CONV], [CONV], [CONV, CONV]]}, "list different operators"),
    ],
)
def test_what_cannot_be_listed_is_told_in_words(tmp_path: Path, candidate: dict[str, Any], words: str) -> None:
    found = profiled(tmp_path, sides({"tell": [[CONV]]}, candidate))
    assert words in found.why
    assert not found.sides


def operators(*rows: tuple[str, str, float]) -> list[Operator]:
    return [Operator(*row) for row in rows]


def test_profiles_are_merged_by_name_whatever_their_order() -> None:
    one = operators(("a", "Conv", 1.3), ("b", "Reorder", 5.0), ("a", "Conv", 3.3))
    other = operators(("b", "Reorder", 7.0), ("a", "Conv", 1.2), ("a", "Conv", 3.2))
    third = operators(("a", "Conv", 9.0), ("a", "Conv", 3.1), ("b", "Reorder", 4.0))
    # The least of 1.3, 1.2, 9.0, of 5, 7, 4 and of 3.3, 3.2, 3.1, in the first one's order.
    assert least([one, other, third]) == operators(("a", "Conv", 1.2), ("b", "Reorder", 4.0), ("a", "Conv", 3.1))
    assert least([one]) == one


BEFORE = operators(("c1", "Conv", 4.0), ("c2", "Conv", 2.0), ("r1", "Reorder", 0.5), ("s", "Softmax", 1.0))
AFTER = operators(
    ("c1", "Conv", 4.1),
    ("c2", "Winograd", 1.9),
    ("r1", "Reorder", 0.6),
    ("r2", "Reorder", 0.9),
    ("r2", "Reorder", 0.8),
    ("s", "Softmax", 1.0),
)


def test_counts_are_exact_and_in_order() -> None:
    assert operator_counts(AFTER) == {"Conv": 1, "Reorder": 3, "Softmax": 1, "Winograd": 1}
    assert list(operator_counts(AFTER)) == sorted(operator_counts(AFTER))
    assert operator_counts([]) == {}


def test_the_difference_by_type_and_by_name() -> None:
    found = difference(BEFORE, AFTER)
    assert (found.whole.base, found.whole.candidate) == (4, 6)
    assert found.whole.ms == pytest.approx(9.3 - 7.5)
    by_type = {one.type: (one.base, one.candidate, round(one.ms, 6)) for one in found.types}
    assert by_type == {"Conv": (2, 1, -1.9), "Winograd": (0, 1, 1.9), "Reorder": (1, 3, 1.8), "Softmax": (1, 1, 0.0)}
    assert [abs(one.ms) for one in found.types] == sorted((abs(one.ms) for one in found.types), reverse=True)
    # r2 stands twice on one side and not at all on the other: a name that says nothing.
    assert {one.name: (one.base, one.candidate) for one in found.names} == {
        "c1": ("Conv", "Conv"),
        "c2": ("Conv", "Winograd"),
        "r1": ("Reorder", "Reorder"),
        "s": ("Softmax", "Softmax"),
    }
    # Changes of 5.6 in all, of which 1.8 is left: less than half.
    assert found.share(1.8) is None


def test_shares_are_of_the_whole_change_and_only_where_it_is_one() -> None:
    slower = difference(BEFORE, operators(("c1", "Conv", 4.0), ("c2", "Conv", 3.0), ("s", "Softmax", 1.5)))
    # Conv +1.0, Softmax +0.5, Reorder -0.5: +1.0 of it is left.
    assert {one.type: slower.share(one.ms) for one in slower.types} == {"Conv": 1.0, "Softmax": 0.5, "Reorder": -0.5}
    assert difference(BEFORE, BEFORE).share(0.0) is None


def test_operators_are_stored_with_their_place(tmp_path: Path) -> None:
    stored.write(tmp_path, {"cell": {BASE: BEFORE, CANDIDATE: AFTER}})
    table = pd.read_parquet(tmp_path / "operators.parquet")
    after = table[(table.cell == "cell") & (table.side == CANDIDATE)]
    assert list(zip(after.name, after.type, after.ms, strict=True)) == [(one.name, one.type, one.ms) for one in AFTER]
    assert after.place.tolist() == list(range(6))


def printed(found: dict[str, Any]) -> str:
    out = io.StringIO()
    print_operators(json.loads(json.dumps(found)), Console(file=out, width=160))
    return out.getvalue()


def test_what_grew_is_printed_with_the_counts_that_changed() -> None:
    text = printed(facts({BASE: BEFORE, CANDIDATE: AFTER}))
    assert "4 → 6 operators: Reorder 1 → 3, Conv 2 → 1, Winograd 0 → 1" in text
    assert "profiler" in text, "that these are no timed times"
    assert "as many" in printed(facts({BASE: BEFORE, CANDIDATE: BEFORE}))
    names = operators(("[red]x[/red]", "[bold]Conv", 1.0))
    assert "[red]x[/red]" in printed(facts({BASE: names, CANDIDATE: names}))
    assert "Operators: no [red]profiler" in printed(facts({}, "no [red]profiler"))


def test_a_command_asks_for_the_same_again() -> None:
    request = Request({"options": "onnx", "precisions": None, "model": "a folder/best.pt"})
    words = request.command("ab", base="onnxruntime==1.25.1", pairs=None, minutes=0.5, profile=True, other=False)
    assert words.endswith(
        "ab --options onnx --model 'a folder/best.pt' --base onnxruntime==1.25.1 --minutes 0.5 --profile"
    )

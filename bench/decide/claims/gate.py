"""The gate that a check must pass: none is registered without results that support, refute and leave open a claim.

`tests/test_claims_checks.py` runs every registered check on its three sets of results; a check that cannot fail, or
that is sure of what is not sure, is found there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.synthetic import Results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Finding
from bench.words.text import Text

Function = Callable[[Tables, Claim, Any], list[Finding]]

CHECKS: dict[str, Registered] = {}


class GateError(Exception):
    """A check was registered in a way that would let it decide unexamined."""


@dataclass(frozen=True)
class Registered:
    """A check with what shows that it can say yes, no and neither.

    `asked` are the parameters under which the three sets of results are looked at, for a claim about `option`.
    """

    name: str
    parameters: type[Parameters]
    function: Function
    supports: Results
    refutes: Results
    wide: Results
    option: str = "onnx"
    asked: Mapping[str, Any] = field(default_factory=dict)

    def example_claim(self) -> Claim:
        """A claim as the examples ask it."""
        words = Text(en="Example.", zh="示例。")
        return Claim.model_validate(
            {
                "id": f"{self.option}.performance", "option": self.option, "aspect": "performance", "section": "-",
                "line": 1, "quote": "-", "english": "-", "reading": words, "supports": words, "refutes": words,
                "parts": [{"id": "all", "says": words}],
                "checks": [{"check": self.name, "kind": "measured", "because": words, **self.asked}],
            }
        )  # fmt: skip


def register(
    name: str,
    parameters: type[Parameters],
    function: Function,
    *,
    supports: Results,
    refutes: Results,
    wide: Results,
    option: str = "onnx",
    **asked: Any,
) -> None:
    """Make a check known under `name`.

    `supports`, `refutes` and `wide` are results on which it must say supported, refuted and inconclusive when asked
    about `option` with the parameters `asked`; `wide` has intervals too wide, or an observation that could not be
    made.  Raises GateError at import for a name taken, or examples that are missing, empty or the same.
    """
    if name in CHECKS:
        raise GateError(f"check {name!r} is registered twice")
    examples = {"supports": supports, "refutes": refutes, "wide": wide}
    for label, results in examples.items():
        if not results.rows:
            raise GateError(f"check {name!r}: {label} holds no result")
    if len({repr(results) for results in examples.values()}) < len(examples):
        raise GateError(f"check {name!r}: two of its examples are the same, so it could not tell them apart")
    CHECKS[name] = Registered(name, parameters, function, supports, refutes, wide, option, asked)


def models() -> dict[str, type[Parameters]]:
    """The parameter model of every check, for `registry.load_claims`."""
    return {name: check.parameters for name, check in CHECKS.items()}

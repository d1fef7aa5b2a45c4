"""The registered statements: wrong files are told apart, and every word of the guide is in its place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from bench.decide.claims import document, registry
from bench.decide.claims.document import Kind
from bench.decide.claims.registry import CLAIMS
from bench.decide.claims.statements import GENERAL, Claim, DocumentFacts, Parameters, TableCell
from bench.grid.entries import Entry
from bench.reasons import UsageError
from bench.words.text import Text

BESIDE = Path(__file__).parents[2] / "shared" / "document" / "model-deployment-options.zh.md"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def claims() -> tuple[Claim, ...]:
    return registry.load_claims()


@pytest.fixture(scope="module")
def guide(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("bench_document")
    path = Path(given) if given else BESIDE
    if not given and not path.is_file():
        pytest.skip("no guide: name it with --document PATH")
    return path


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(CLAIMS.parent, tmp_path / "matrices") / "claims"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def texts(value: object) -> list[Text]:
    """Every shown text of a claim, however deep."""
    if isinstance(value, Text):
        return [value]
    if isinstance(value, Entry):
        return [text for name in type(value).model_fields for text in texts(getattr(value, name))]
    return [text for item in value for text in texts(item)] if isinstance(value, tuple) else []


def test_every_option_has_its_seven_statements_in_the_document_s_order(claims: tuple[Claim, ...]) -> None:
    facts = registry.load_document_facts()
    found = [claim.id for claim in claims if claim.aspect != GENERAL]
    assert found == [f"{option}.{aspect}" for option in facts.options for aspect in facts.aspects]
    assert len(found) == 98


def test_what_has_no_check_that_decides_says_why(claims: tuple[Claim, ...]) -> None:
    for claim in claims:
        if not claim.deciding:
            why = claim.not_measurable or claim.untested
            assert why is not None, claim.id
            assert why.en not in (claim.reading.en, claim.supports.en), claim.id
    aspects = {claim.aspect for claim in claims if claim.deciding}
    assert {"performance", "compatibility", "maintenance", "security", "hardware"} <= aspects


def test_both_languages_are_what_they_say(claims: tuple[Claim, ...]) -> None:
    for claim in claims:
        shown = texts(claim)
        assert len(shown) >= 4, claim.id
        assert all(CHINESE.search(text.zh) for text in shown), claim.id
        assert not any(CHINESE.search(text.en) for text in shown), claim.id
        assert not CHINESE.search(claim.english), claim.id


def test_reading_and_what_supports_or_refutes_it_are_three_things(claims: tuple[Claim, ...]) -> None:
    for claim in claims:
        assert len({claim.reading.en, claim.supports.en, claim.refutes.en}) == 3, claim.id


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('because.zh = "在一台', 'because.zn = "在一台', ["pytorch.performance.checks.1.because.zh", "required"]),
        ('supports.zh = "在同一目标', 'supports.cn = "在同一目标', ["pytorch.performance.supports.zh", "required"]),
        ("aspect = ", "aspectt = ", ["pytorch.performance.aspectt", "unknown key", "aspect"]),
        ('aspect = "performance"', 'aspect = "speed"', ["pytorch.performance", "'speed'", "performance, compat"]),
        ('section = "PyTorch"', 'section = "Torch"', ["pytorch.performance", "'Torch'", "'PyTorch'"]),
        ('id = "pytorch.performance"', 'id = "pytorch.hardware"', ["id must be 'pytorch.performance'"]),
        ("line = 40", "line = 0", ["pytorch.performance.line", "greater than or equal to 1"]),
        ('"arm-cpu", "cuda"', '"arm", "cuda"', ["pytorch.performance: checks.1.scope.targets", "unknown arm;", "cuda"]),
        ('target = "cuda"', 'target = "gpu"', ["pytorch.hardware: checks.2.target", "unknown gpu;", "vulkan"]),
        ('"fp32"', '"f32"', ["pytorch.performance: checks.1.scope.precisions", "unknown f32;", "fp32"]),
        ("scope.targets", "scope.target", ["pytorch.performance: checks.1.scope.target", "unknown key", "targets"]),
        ("[[claim.checks]]", "[[claim.check]]", ["pytorch.performance.check", "unknown key", "checks"]),
        ("[[claim]]", 'x = "', ["pytorch.toml", "not valid TOML"]),
    ],
)
def test_wrong_claim_is_told(copied: Path, old: str, new: str, said: list[str]) -> None:
    edit(copied / "pytorch.toml", old, new)
    with pytest.raises(UsageError) as error:
        registry.load_claims(copied)
    for text in ["pytorch.toml", *said]:
        assert text in str(error.value)


def test_claim_needs_checks_or_a_reason_for_none(copied: Path) -> None:
    edit(copied / "pytorch.toml", 'not_measurable.en = "How active', 'needs.en = "How active')
    edit(copied / "pytorch.toml", 'not_measurable.zh = "社区', 'needs.zh = "社区')
    with pytest.raises(UsageError, match=r"pytorch\.community: needs one of checks that are no facts"):
        registry.load_claims(copied)


def test_file_of_no_option_and_claim_told_twice_are_refused(copied: Path) -> None:
    text = (copied / "general.toml").read_text(encoding="utf-8")
    second = text[text.index("[[claim]]") : text.index("[[claim]]", text.index("[[claim]]") + 1)]
    (copied / "general.toml").write_text(text + "\n" + second, encoding="utf-8")
    with pytest.raises(UsageError, match=r"general\.choice_matters: id is taken"):
        registry.load_claims(copied)
    (copied / "keras.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"keras\.toml: the file must be named after an option"):
        registry.load_claims(copied)


def test_parameters_are_checked_by_the_check_s_own_model(copied: Path) -> None:
    class Traded(Parameters):
        threshold: float
        at_most: float | None = None

    names = {check.check for claim in registry.load_claims(copied) for check in claim.checks}

    class Anything(Parameters, extra="allow"):
        pass

    models: dict[str, type[Parameters]] = dict.fromkeys(names, Anything) | {"some_option_faster": Traded}
    first = registry.load_claims(copied, models)[0].checks[1]
    read = registry.parameters(first, Traded)
    assert isinstance(read, Traded)
    assert (read.threshold, read.at_most, read.scope.precisions) == (1.0, 1.25, ("fp32",))

    edit(copied / "pytorch.toml", "at_most = 1.25", "at_mots = 1.25")
    with pytest.raises(
        UsageError, match=r"performance: checks\.2\.at_mots: unknown key; allowed: scope, threshold, at"
    ):
        registry.load_claims(copied, models)
    edit(copied / "pytorch.toml", "at_mots", "at_most")
    edit(copied / "pytorch.toml", "threshold = 1.0", 'threshold = "much"')
    with pytest.raises(UsageError, match=r"performance: checks\.1\.threshold: .*valid number"):
        registry.load_claims(copied, models)
    del models["some_option_faster"]
    with pytest.raises(UsageError, match=r"checks\.1\.check: no check 'some_option_faster'; there are: .*converts"):
        registry.load_claims(copied, models)


SMALL = """---
comments: true
---

# Title

## Options

### Alpha

Alpha is quick. It is old.

- **Speed**：Runs **fast**, see [there](https://example.org/a-b).
- **Size**: Small.

## Compare

| Option | Speed | Size  |
| ------ | ----- | ----- |
| Alpha  | fast  | small |

## Questions

For more, ask.
"""


def small() -> tuple[DocumentFacts, tuple[Claim, ...]]:
    words = Text(en="words", zh="文字")
    facts = DocumentFacts.model_validate(
        {
            "title": "Title", "source": "nowhere", "sha256": "0" * 64, "lines": 25, "table_section": "Compare",
            "columns": ["Option", "Speed", "Size"], "options": {"alpha": "Alpha"},
            "aspects": {"speed": "Speed", "size": "Size"},
            "passed_over": [{"why": words, "begins": ["For more"]}],
        }
    )  # fmt: skip

    def claim(id: str, line: int, quote: str, cell: str = "") -> Claim:
        table = TableCell(line=20, quote=cell, english=cell) if cell else None
        option, _, aspect = id.partition(".")
        own = option != GENERAL
        return Claim(
            id=id, option="alpha", aspect=aspect if own else GENERAL, section="Alpha", line=line, quote=quote,
            english=quote, reading=words, supports=words, refutes=words, not_measurable=words, table=table,
        )  # fmt: skip

    return facts, (
        claim("alpha.speed", 13, "Runs **fast**, see [there](https://example.org/a-b).", "fast"),
        claim("alpha.size", 14, "Small.", "small"),
        claim("general.quick", 11, "Alpha is quick. It is old."),
    )


def differences(text: str) -> list[tuple[Kind, str, int]]:
    facts, claims = small()
    return [(found.kind, found.claim, found.line) for found in document.compare(document.parse(text, facts), claims)]


def test_small_document_is_read_with_front_matter_links_and_table() -> None:
    facts, _ = small()
    read = document.parse(SMALL, facts)
    assert [(bullet.aspect, bullet.line) for bullet in read.bullets] == [("speed", 13), ("size", 14)]
    assert [(cell.aspect, cell.line, cell.quote) for cell in read.cells] == [
        ("speed", 20, "fast"),
        ("size", 20, "small"),
    ]
    assert [(part.section, part.line) for part in read.sentences] == [("Alpha", 11)]
    assert differences(SMALL) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("- **Size**: Small.", "- **Size**: Tiny.", [(Kind.CHANGED, "alpha.size", 14)]),
        ("- **Size**: Small.\n", "", [(Kind.MISSING, "alpha.size", 14), (Kind.MOVED, "alpha.size", 19),
                                      (Kind.MOVED, "alpha.speed", 19)]),
        ("| small |", "| large |", [(Kind.CHANGED, "alpha.size", 20)]),
        ("# Title\n", "# Title\n\n", [(Kind.MOVED, "general.quick", 12), (Kind.MOVED, "alpha.speed", 14),
                                      (Kind.MOVED, "alpha.size", 15), (Kind.MOVED, "alpha.size", 21),
                                      (Kind.MOVED, "alpha.speed", 21)]),
        ("It is old.", "It is new.", [(Kind.UNREGISTERED, "", 11), (Kind.CHANGED, "general.quick", 11)]),
        ("Alpha is quick.", "Hardly Alpha is quick.", [(Kind.CHANGED, "general.quick", 11)]),
        ("For more, ask.", "Alpha is best.", [(Kind.UNREGISTERED, "", 24)]),
        ("- **Size**: Small.", "- **Size**: Small.\n- **Price**: Low.", [(Kind.UNREGISTERED, "", 15),
                                                                         (Kind.MOVED, "alpha.size", 21),
                                                                         (Kind.MOVED, "alpha.speed", 21)]),
        ("| small |", "| small |\n| Beta | slow | big |", [(Kind.UNREGISTERED, "", 21), (Kind.UNREGISTERED, "", 21)]),
    ],
)  # fmt: skip
def test_difference_from_small_document_is_told(old: str, new: str, said: list[tuple[Kind, str, int]]) -> None:
    assert old in SMALL
    assert differences(SMALL.replace(old, new)) == said


def test_moved_words_are_not_stale_and_changed_ones_are() -> None:
    facts, claims = small()
    assert document.stale(document.parse(SMALL.replace("# Title\n", "# Title\n\n"), facts), claims) == set()
    assert document.stale(document.parse(SMALL.replace("Small.", "Big."), facts), claims) == {"alpha.size"}


def test_file_that_is_no_guide_is_told(tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    with pytest.raises(UsageError, match=r"guide\.md: cannot be read: No such file"):
        document.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"guide\.md: not UTF-8"):
        document.read(path)
    path.write_text("# Another page\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"guide\.md: no list of statements .* PyTorch, TorchScript"):
        document.read(path)


def test_every_statement_of_the_guide_is_registered_word_for_word(guide: Path, claims: tuple[Claim, ...]) -> None:
    read = document.read(guide)
    facts = registry.load_document_facts()
    assert document.compare(read, claims) == []
    assert (read.sha256, read.lines) == (facts.sha256, facts.lines)
    assert (len(read.bullets), len(read.cells)) == (98, 98)


def test_one_changed_line_makes_exactly_its_claim_stale(guide: Path, claims: tuple[Claim, ...]) -> None:
    lines = guide.read_text(encoding="utf-8").splitlines()
    facts = registry.load_document_facts()
    places = {
        claim.id: (claim.line, claim.quote) for claim in claims if claim.id.endswith((".security", "faq_formats"))
    }
    places |= {claim.id: (claim.table.line, f"| {claim.table.quote}") for claim in claims[3::35] if claim.table}
    for claim, (line, quote) in places.items():
        changed = list(lines)
        assert quote in changed[line - 1]
        changed[line - 1] = changed[line - 1].replace(
            quote, f"| 并非{quote[2:]}" if quote[0] == "|" else f"并非{quote}"
        )
        assert document.stale(document.parse("\n".join(changed) + "\n", facts), claims) == {claim}
    assert len(places) == 14 + 1 + 3

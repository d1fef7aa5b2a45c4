"""Write what of the documents comes from the code: `nox -s docs`, or `python docs/generate.py [--check]`.

docs/results-format.md is the documentation of the tables' schemas; in docs/architecture.md the picture of what imports
what, and the table below it, stand between two comments, and so do in docs/method.md the calibrations of
results/calibration, in docs/gate.md the self-checks of results/self-check, and in docs/faults.md the campaigns of
results/faults.  The imports are read by grimp, import-linter's own library, so this needs the `dev` environment.  With
`--check` nothing is written and a document that is not current gives exit code 1.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import store  # noqa: E402 - needs the line above
from bench.report import calibration, selfcheck  # noqa: E402 - likewise
from docs import campaign  # noqa: E402 - likewise

PACKAGE = "bench"
IMPORTS, CALIBRATION, RATES, CAMPAIGN = "imports", "calibration", "error rates", "campaign"
"""What is written between two comments of a page."""

Arrow = tuple[str, str]
"""An import: who imports, and what; both named by what stands directly in the package."""


def layers(pyproject: Path) -> list[list[str]]:
    """The layers of import-linter's contract, from the top down; what stands in one layer may not import each other."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    written = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in written]


def arrows(known: set[str]) -> set[Arrow]:
    """Every import between two of the `known` folders and modules of the package, imports in functions included."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            one, other = (name.split(".")[1:2] for name in (importer, imported))
            if one and other and one != other and {*one, *other} <= known:
                found.add((one[0], other[0]))
    return found


def reduced(found: set[Arrow]) -> set[Arrow]:
    """The fewest arrows from which the others follow: one that a longer way replaces is left out.

    Unique, because nothing imports upward and so there is no circle.
    """
    reached: dict[str, set[str]] = {}

    def below(name: str) -> set[str]:
        if name not in reached:
            direct = {imported for importer, imported in found if importer == name}
            reached[name] = direct.union(*(below(one) for one in direct))
        return reached[name]

    return {
        (importer, imported)
        for importer, imported in found
        if not any(imported in below(between) for one, between in found if one == importer)
    }


def picture(order: list[str], drawn: set[Arrow]) -> str:
    """The arrows as a Mermaid flow chart, from the top layer down."""
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {name}["{_shown(name)}"]' for name in order]
    for importer in order:
        lines += [f"    {importer} --> {imported}" for imported in order if (importer, imported) in drawn]
    return "\n".join([*lines, "    style guest stroke-dasharray: 6 4", "```"])


def table(order: list[str], found: set[Arrow]) -> str:
    """What each folder and module is, in the words of its own docstring, and all that it imports."""
    lines = ["| | what it is | imports |", "|---|---|---|"]
    for name in order:
        imported = ", ".join(other for other in order if (name, other) in found)
        lines.append(f"| `{_shown(name)}` | {_said(name)} | {imported or 'nothing of ours'} |")
    return "\n".join(lines)


def section() -> str:
    """The generated part of docs/architecture.md."""
    order = [name for layer in layers(ROOT / "pyproject.toml") for name in layer]
    found = arrows(set(order))
    drawn = reduced(found)
    words = (
        f"{len(order)} folders and modules stand side by side in `{PACKAGE}/`, with {len(found)} arrows between them. "
        f"Drawn are the {len(drawn)} from which the others follow; the table has them all."
    )
    return "\n\n".join([words, picture(order, drawn), table(order, found)])


def replaced(path: Path, what: str, new: str) -> str:
    """A page with what stands between its comments on `what` replaced.  Raises ValueError where they are missing."""
    start, end = f"<!-- {what}: written by `nox -s docs` -->", f"<!-- {what}: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} must hold the comments {start} and {end}, in this order")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write the documents, or with `--check` say which of them are not current; returns the exit code."""
    names = ("architecture", "method", "gate", "faults")
    architecture, method, gate, faults = (ROOT / "docs" / f"{name}.md" for name in names)
    pages = {
        architecture: replaced(architecture, IMPORTS, section()),
        method: replaced(method, CALIBRATION, calibration.document(ROOT / "results" / "calibration")),
        gate: replaced(gate, RATES, selfcheck.document(ROOT / "results" / "self-check")),
        faults: replaced(faults, CAMPAIGN, campaign.document(ROOT / "results" / "faults")),
        ROOT / "docs" / "results-format.md": store.document(),
    }
    stale = [page for page, text in pages.items() if page.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        for page in stale:
            print(f"{page.relative_to(ROOT)} is not current; run `nox -s docs` and commit it", file=sys.stderr)
        return 1 if stale else 0
    for page in stale:
        page.write_text(pages[page], encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")
    return 0


def _shown(name: str) -> str:
    """A folder or module of the package as people write it."""
    return f"{name}/" if (ROOT / PACKAGE / name).is_dir() else f"{name}.py"


def _said(name: str) -> str:
    """The first sentence of a folder's or module's docstring."""
    path = ROOT / PACKAGE / name
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split()).replace("|", r"\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

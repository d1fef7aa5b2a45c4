"""A contract for import-linter that follows the lock: which packages the core may import is written down there."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class CoreOnly(Contract):
    """Modules outside `beyond` import the standard library and the packages of `lock`, and no other.

    So adding a format, whose packages are in a lock of its own, changes nothing here.
    """

    type_name = "core_only"
    lock = fields.StringField()
    beyond = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every direct import of a package that is not ours."""
        del verbose
        allowed = {*sys.stdlib_module_names, *_modules_of(Path(str(self.lock)))}
        # Import-linter has put what the field read in the field's place.
        packages = tuple(str(package) for package in self.beyond)  # type: ignore[attr-defined]
        breaches = [
            (importer, imported, detail["line_number"])
            for importer in sorted(graph.modules)
            if not graph.is_module_squashed(importer)
            if not any(importer == package or importer.startswith(f"{package}.") for package in packages)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if graph.is_module_squashed(imported) and imported not in allowed
            for detail in graph.get_import_details(importer=importer, imported=imported)
        ]
        return ContractCheck(kept=not breaches, metadata={"breaches": breaches})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say each import that no lock of the core allows."""
        for importer, imported, line in check.metadata["breaches"]:
            output.print_error(f"{importer} imports {imported} (line {line}), which {self.lock} does not hold")


def _modules_of(lock: Path) -> set[str]:
    """Top-level modules of the distributions in a lock, as far as they are installed here."""
    locked = {_normal(line.partition("==")[0]) for line in lock.read_text(encoding="utf-8").splitlines()}
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if locked & {_normal(name) for name in distributions}
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()

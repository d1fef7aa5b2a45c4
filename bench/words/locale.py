"""Words of pages and notes: one TOML file per language with the same keys in each.

A few hundred short strings with named gaps need neither a compiler of message catalogues nor a library to read them;
TOML is what the rest of the project's texts are in, and what differs between two files is found when they are loaded.
"""

from __future__ import annotations

import locale
import os
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench.grid import entries
from bench.places import REPORTS
from bench.reasons import UsageError
from bench.words.numbers import number
from bench.words.text import Text

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
"""The guide's language and ours."""


@dataclass(frozen=True)
class Locale:
    """A language's strings by dotted key."""

    language: Language
    strings: Mapping[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        """The string of that key with its gaps filled.  Raises KeyError for a key or a value that is not there."""
        text = self.strings[key]
        return text.format_map(values) if values else text

    def count(self, key: str, n: int) -> str:
        """`1 cell`, `2 cells`: the text below `key` for one, or for more."""
        return self(f"{key}.one" if n == 1 else f"{key}.more", n=number(n, 0))

    def sentences(self, said: Iterable[str]) -> str:
        """Sentences after one another.  The full stop of Chinese has room of its own, so no blank follows it."""
        return ("" if self.language == "zh" else " ").join(filter(None, said))

    def listing(self, items: Sequence[str]) -> str:
        """`a`, `a and b`, `a, b and c`."""
        *before, last = items or ("",)
        return self("and", before=self("separator").join(before), last=last) if before else last

    def pick(self, text: Text) -> str:
        """The words of this language."""
        return str(getattr(text, self.language))


def preferred() -> Language:
    """The language of the user's locale: Chinese where it is one, else English.

    By POSIX's variables in their order, else by what the system says (Windows).
    """
    named = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), None)
    known = named if named is not None else locale.getlocale()[0] or ""
    return "zh" if known.lower().startswith(("zh", "chinese")) else "en"


def asked(arguments: Sequence[str]) -> Language:
    """The language that a command line names with --lang, read by nobody yet; else that of the user's locale."""
    for place, word in enumerate(arguments):
        name, given, value = word.partition("=")
        named = value if given else next(iter(arguments[place + 1 :]), "")
        if name == "--lang" and named in LANGUAGES:
            return "zh" if named == "zh" else "en"
    return preferred()


@cache
def texts(name: str, language: str) -> Locale:
    """The texts of reports/locale/`name` in a language.  Raises UsageError as `load` does."""
    return load(REPORTS / "locale" / name)[language]


def load(directory: Path) -> dict[str, Locale]:
    """Every language's strings.

    Raises UsageError when a file cannot be read, a string is empty or not text, or the files differ in their keys or
    in the gaps of a string.
    """
    locales: dict[str, Locale] = {}
    for language in LANGUAGES:
        path = directory / f"{language}.toml"
        strings = dict(_flat(entries.read(path), path))
        locales[language] = Locale(language, strings)
    first, *others = locales.values()
    for other in others:
        _compare(directory, first, other)
    return locales


def _flat(table: Mapping[str, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(value, path, f"{key}.")
        elif not isinstance(value, str) or not value.strip():
            raise UsageError(f"{path}: {key}: must be a text that is not empty")
        else:
            yield key, value


def _compare(directory: Path, one: Locale, other: Locale) -> None:
    for here, there in ((one, other), (other, one)):
        absent = sorted(here.strings.keys() - there.strings.keys())
        if absent:
            raise UsageError(
                f"{directory / there.language}.toml: {', '.join(absent)}: missing; {here.language}.toml has it"
            )
    for key, text in one.strings.items():
        if _gaps(text) != _gaps(other.strings[key]):
            raise UsageError(
                f"{directory / other.language}.toml: {key}: its gaps are {sorted(_gaps(other.strings[key]))}, those of "
                f"{one.language}.toml are {sorted(_gaps(text))}"
            )


def _gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

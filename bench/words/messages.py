"""Messages that arise in English, in the words of another language.

What a file does wrong, a guest refuses or an environment lacks is said where it is found, in English: runs store it so,
and programs may read it.  People are shown it through here.  A message is recognised by its words, which stand in
reports/locale/messages/en.toml with gaps for what differs, and is put together from the text of the same key in their
language; what fills a gap is looked up in turn.  What is not known stays as it is.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from bench.grid import matrix
from bench.places import REPORTS
from bench.words.locale import Locale, load

TEXTS = REPORTS / "locale" / "messages"
_NUMBER = frozenset("0123456789.,\N{NARROW NO-BREAK SPACE}")
_BETWEEN = "; "


@dataclass(frozen=True)
class Form:
    """The English words of a message: `texts` before, between and after its `gaps`, one more than these."""

    key: str
    texts: tuple[str, ...]
    gaps: tuple[str, ...]

    @property
    def weight(self) -> int:
        """Letters that a message must have to be this one; of several that fit, the one with most of them is meant."""
        return sum(map(len, self.texts))

    def filled(self, message: str) -> dict[str, str] | None:
        """What fills the gaps of a message of this form; None where it is none.

        A gap ends where the next text first begins.  One called `n`, or `n_...`, holds a number.
        """
        first, last = self.texts[0], self.texts[-1]
        if not message.startswith(first) or not message.endswith(last):
            return None
        if not self.gaps:
            return {} if message == first else None
        at, end = len(first), len(message) - len(last)
        if at > end:
            return None
        values = []
        for text in self.texts[1:-1]:
            found = message.find(text, at, end)
            if found < 0:
                return None
            values.append(message[at:found])
            at = found + len(text)
        filled = dict(zip(self.gaps, [*values, message[at:end]], strict=True))
        return filled if all(map(_fits, filled, filled.values())) else None


@dataclass(frozen=True)
class Messages:
    """Says English messages in the words of `locale`: `forms` are those it knows, `names` are of single things."""

    forms: tuple[Form, ...]
    locale: Locale
    names: Mapping[str, str]

    def __call__(self, message: str) -> str:
        """The message in this language, line by line where it is not known as a whole; as it is where it is unknown."""
        whole = self._whole(message)
        if whole is not None or "\n" not in message:
            return message if whole is None else whole
        return "\n".join(map(self._line, message.split("\n")))

    def knows(self, message: str) -> bool:
        """Whether every line of a message is said in this language."""
        return self._whole(message) is not None or all(
            self._whole(line.strip()) is not None for line in message.split("\n") if line.strip()
        )

    def _line(self, line: str) -> str:
        words = line.strip()
        return line.replace(words, self(words)) if words else line

    def _whole(self, message: str) -> str | None:
        for form in self.forms:
            filled = form.filled(message)
            if filled is not None:
                return self.locale(form.key, **{name: self._in_gap(name, value) for name, value in filled.items()})
        return None

    def _in_gap(self, name: str, value: str) -> str:
        """What fills a gap.  A single word is the name of something and no message, but in a gap called `word`."""
        if value in self.names:
            return self.names[value]
        if " " not in value and name != "word":
            return value
        parts = [self._whole(part) for part in value.split(_BETWEEN)]
        if len(parts) > 1 and None not in parts:
            return self.locale("between").join(filter(None, parts))
        return self(value)


@cache
def messages(language: str) -> Messages:
    """What says messages in a language.  Raises UsageError as `bench.words.locale.load` does."""
    both = load(TEXTS)
    locale, english = both[language], both["en"]
    if language == english.language:
        return Messages((), locale, {})
    forms = (form(key, text) for key, text in english.strings.items())
    return Messages(tuple(sorted(forms, key=lambda one: -one.weight)), locale, _names())


def form(key: str, text: str) -> Form:
    """A catalogue's text, whose gaps have names and are apart from each other, as what messages are held against."""
    pieces = list(string.Formatter().parse(text))
    texts = [before for before, _, _, _ in pieces]
    gaps = [name for _, name, _, _ in pieces if name is not None]
    return Form(key, tuple(texts if len(texts) > len(gaps) else [*texts, ""]), tuple(gaps))


def _fits(name: str, value: str) -> bool:
    return name.partition("_")[0] != "n" or (bool(value) and _NUMBER.issuperset(value))


def _names() -> dict[str, str]:
    """What the project's matrices say in both languages: targets, what they need, what an option lacks."""
    found: dict[str, str] = {}
    for target in matrix.load_targets().values():
        found |= {target.name: target.name_zh, target.needs: target.needs_zh}
    found |= {option.lacks: option.lacks_zh for option in matrix.load_options()}
    return {english: other for english, other in found.items() if other}

"""The models of a run by the names that its cells have: file stems, told apart by content where two share one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.files import expanded
from bench.reasons import UsageError

_DIGITS = 7
"""Of a hash, as much as stands in a name."""


def named(given: Sequence[str]) -> dict[str, str]:
    """What each checkpoint is called, with its path or official name as given, in their order.

    It has its file's stem; where a file of other content has that too, the beginning of its own SHA-256 follows: a
    cell's id is then of one content alone.  A file that is given twice is there once.
    Raises UsageError where such files cannot be told apart.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for text in dict.fromkeys(given):
        alike[Path(text).stem].append(text)
    found: dict[str, str] = {}
    for stem, texts in alike.items():
        contents = {stem: texts[0]} if len(texts) == 1 else _by_content(stem, texts)
        for name, text in contents.items():
            if name in found:
                raise UsageError(f"--model: {found[name]} and {text} would both be called {name}; rename one of them")
            found[name] = text
    order = list(given)
    return dict(sorted(found.items(), key=lambda item: order.index(item[1])))


def _by_content(stem: str, texts: Sequence[str]) -> dict[str, str]:
    """Files of one stem by what they are called.  Raises UsageError for one that cannot be read."""
    contents: dict[str, str] = {}
    for text in texts:
        contents.setdefault(_digest(text), text)
    if len(contents) == 1:
        return {stem: texts[0]}
    names = [f"{stem}-{digest[:_DIGITS]}" for digest in contents]
    if len(set(names)) < len(names):
        raise UsageError(f"--model: {' and '.join(contents.values())} have one name, hashes included; rename one")
    return dict(zip(names, contents.values(), strict=True))


def _digest(text: str) -> str:
    """SHA-256 of a file.  Raises UsageError for one that is not here: an official name may still have to be fetched."""
    try:
        return hashlib.sha256(expanded("--model", text).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--model {text}: another model has the same file name, and this one cannot be read to tell the two apart: "
            f"{error}. Give the path of a file that is here, or rename one of them"
        ) from error

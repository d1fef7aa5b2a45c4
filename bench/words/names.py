"""Names beside each other: things that share one are told apart by what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

Thing = tuple[str, str]
"""A name and the hash of what it stands for, in hexadecimal digits; an empty hash where that is not known."""

_DIGITS = 7


def short(digest: str) -> str:
    """The beginning of a hash, as people are shown it."""
    return digest[:_DIGITS]


def apart(things: Iterable[Thing]) -> dict[Thing, str]:
    """What each of several things is called: its name, with the beginning of its hash where another's is the same.

    So two files of one name are never one, and a thing that has its name to itself keeps it as it is.  Where a hash is
    not known, nothing is known of how it differs: it keeps the bare name, which the others then do not have.
    """
    known: defaultdict[str, set[str]] = defaultdict(set)
    every = set(things)
    for name, digest in every:
        known[name].add(digest)
    return {
        (name, digest): f"{name} ({_telling(digest, known[name])})" if digest and len(known[name]) > 1 else name
        for name, digest in every
    }


def _telling(digest: str, among: set[str]) -> str:
    """As much of a hash as no other has, and at least `_DIGITS` of it."""
    others = among - {digest}
    return next(
        (
            digest[:size]
            for size in range(_DIGITS, len(digest))
            if not any(one.startswith(digest[:size]) for one in others)
        ),
        digest,
    )

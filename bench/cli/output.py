"""Standard output and error of the command line: what nobody reads, or no disk takes, ends no measurement.

`| head` and a pager that is left close a pipe; whatever is written to it afterwards goes nowhere, which is what its
reader asked for.  Any other failure is told once the command is over, since its output is then not whole.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

_LOST: list[str] = []
"""Why output could not be written, in words."""


class _Unfailing(io.FileIO):
    """A file that takes what it is given, whatever becomes of it."""

    def write(self, data: Any) -> int:
        """All of the data, as far as the caller can tell."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
        except OSError as error:
            _LOST.append(error.strerror or str(error))
            return len(data)


def prepare() -> None:
    """Let neither a stream that fails nor a terminal of few characters end a command.

    A terminal in GBK, Latin-1 or ASCII shows a question mark for others; standard error is never that strict.  A stream
    that the caller closed is opened to nowhere, or the next file that is opened would be taken for it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Those of whoever calls this as a function, such as a test, stay theirs.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _unfailing(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _unfailing(sys.stderr)


def lost() -> str:
    """Why output could not be written, once all of it should have been; empty where it was, or nobody read it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return f"the output could not be written whole: {_LOST[0]}" if _LOST else ""


def _unfailing(stream: Any) -> Any:
    """A stream that fails nowhere in the place of one that is open to a file, a pipe or a terminal."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = _Unfailing(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )

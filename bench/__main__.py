"""The program: `python -m bench`, and `yolo11-bench` where the project is installed.

Next to nothing stands here, so that Ctrl-C is heard from the first moment on: reading the modules of a command line
takes longer than a user who has just seen a mistake waits.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line.  Ctrl-C while its modules are read ends the process with exit code 130, and no word."""
    try:
        heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a job in the background ignores it
        if heard:
            # An exception could be raised in a callback of the import system, where it is printed and lost.
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        from bench.cli.app import main as command

        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

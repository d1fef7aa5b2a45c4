"""`python -m bench`, which `yolo11-bench` is where the project is installed."""

import sys

try:
    from bench.cli.app import main
except KeyboardInterrupt:  # Ctrl-C while modules are read
    sys.exit(130)

if __name__ == "__main__":
    main()

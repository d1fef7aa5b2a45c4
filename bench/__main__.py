"""`python -m bench`, which `yolo11-bench` is where the project is installed."""

from bench.cli.app import main

if __name__ == "__main__":
    main()

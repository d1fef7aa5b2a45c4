"""The guests' side of the probes: run with an environment's interpreter, importing only what is installed there."""

"""The guest side of the worker protocol; runs inside the environments, never in the core."""

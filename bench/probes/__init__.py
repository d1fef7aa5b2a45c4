"""Evidence that is no benchmark cell: what a runtime lists, opens, connects to, or can do without.

`runner.py` takes a run of the bench and makes `probes.parquet` and `packages.parquet` beside its cells.  Whatever has
to import a runtime is in `guests/` and runs with an environment's own interpreter, as exporters and runtimes do.
"""

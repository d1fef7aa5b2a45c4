"""Runs on a cluster: exports, parity and accuracy as tasks of Dask on workers that may be other machines.

Only what is here imports Dask, and only when a run is given `--cluster`.
"""

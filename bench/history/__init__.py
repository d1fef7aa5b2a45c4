"""The history of many runs: one Parquet dataset by machine and period, what moved in it, and what went missing."""

"""Results on disk: what a run's tables hold, how they are written while it goes on, and how they are read again."""

from bench.reasons import StoreError
from bench.store.page import document
from bench.store.tables import SCHEMA_VERSION, TABLES, read_table, write_table

__all__ = ["SCHEMA_VERSION", "TABLES", "StoreError", "document", "read_table", "write_table"]

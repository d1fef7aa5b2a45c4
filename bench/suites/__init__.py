"""The pytest suites: one test per cell and instrument."""

"""Checks: each decides one kind of statement from the tables.  Importing this package registers all of them."""

from bench.decide.claims.checks import (
    compatibility,
    footprint,
    hardware,
    maintenance,
    performance,
    ranking,
    scaling,
    security,
    wheels,
)

__all__ = [
    "compatibility",
    "footprint",
    "hardware",
    "maintenance",
    "performance",
    "ranking",
    "scaling",
    "security",
    "wheels",
]

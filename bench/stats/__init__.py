"""Statistics: pure functions over samples and turns, each with the source of its rule.  Nothing here measures."""

from bench.stats.interval import Interval
from bench.stats.percentile import minimum_samples, percentile_bound

__all__ = ["Interval", "minimum_samples", "percentile_bound"]

"""Statistics: pure functions over samples and turns, each with the source of its rule.  Nothing here measures."""

from bench.stats.ratio import Interval, minimum_samples, percentile, ratio_interval

__all__ = ["Interval", "minimum_samples", "percentile", "ratio_interval"]

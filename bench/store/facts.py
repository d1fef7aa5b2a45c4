"""Scopes and keys of facts in the table `environment` that more than one part of the bench reads."""

from __future__ import annotations

SECONDS = "time"
"""Scope of what says how long the steps of a run took."""
IDENTITY = "identity"
"""Scope of what says which things a cell was measured with: a JSON object each."""
DISTURBED = ("run", "latency_disturbed")
"""Scope and key of the cells whose times are no result, a JSON list."""
CATEGORIES = ("run", "category_ids")
"""Scope and key of the ids that official annotations give to classes, a JSON list."""

"""A check: the present state held against a baseline or a revision; and the search for the update that moved it."""

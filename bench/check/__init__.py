"""A check: the present state of the bench held against a baseline or a revision, changed cells alone measured anew."""

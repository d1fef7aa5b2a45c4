"""Which measured option to deploy under given limits."""

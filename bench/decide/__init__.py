"""Deciding, by pure functions over stored tables: what of the guide holds, what to deploy, what differs."""

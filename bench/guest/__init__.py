"""All that runs behind the wall, inside the environments: never the core, and nothing of the core."""

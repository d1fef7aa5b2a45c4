"""The grid: what people write in `matrices/`, the cells it makes, and what of it this machine has."""

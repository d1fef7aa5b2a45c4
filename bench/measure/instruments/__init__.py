"""One module per way of measuring a cell."""

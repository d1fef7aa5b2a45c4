"""The guide, checked: its statements as data, what decides each, and the verdict over measured tables."""

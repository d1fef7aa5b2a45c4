"""Verdicts put on the guide's own lines, for editors (SARIF) and for readers (Markdown)."""

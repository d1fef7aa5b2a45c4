"""One adapter per inference runtime; each runs inside its own environment, served by bench/guest/server.py."""

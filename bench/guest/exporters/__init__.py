"""One exporter per artifact kind; each runs inside an export environment, served by bench/guest/server.py."""

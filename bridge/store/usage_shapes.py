"""What the migrations of usage make, in SQL."""

USAGE = """
CREATE TABLE meters (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    zone TEXT,
    source TEXT,
    state TEXT,
    says TEXT,
    next_step TEXT,
    about TEXT,
    created INTEGER NOT NULL,
    heard INTEGER
) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meters (id),
    direction TEXT NOT NULL,
    kind TEXT NOT NULL,
    unit TEXT NOT NULL,
    currency TEXT NOT NULL,
    straddles INTEGER NOT NULL,
    compacted INTEGER NOT NULL DEFAULT -1000000,
    hourly INTEGER NOT NULL DEFAULT -1000000,
    UNIQUE (meter, direction, kind, unit, currency)
) STRICT;
CREATE TABLE usage_origins (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    reference TEXT NOT NULL,
    reading_type TEXT NOT NULL,
    UNIQUE (kind, name, reference, reading_type)
) STRICT;
CREATE TABLE usage (
    stream INTEGER NOT NULL,
    day INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    closes INTEGER NOT NULL,
    broken INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (stream, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_revisions (
    stream INTEGER NOT NULL,
    day INTEGER NOT NULL,
    replaced INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (stream, day, replaced)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_dates (
    stream INTEGER NOT NULL,
    date INTEGER NOT NULL,
    value ANY,
    exponent INTEGER NOT NULL,
    covered INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    PRIMARY KEY (stream, date)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_stale (
    stream INTEGER NOT NULL,
    date INTEGER NOT NULL,
    PRIMARY KEY (stream, date)
) STRICT, WITHOUT ROWID;

CREATE TABLE contracts (
    id TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    program TEXT,
    source TEXT NOT NULL,
    about TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE contract_meters (
    contract TEXT NOT NULL REFERENCES contracts (id) ON DELETE CASCADE,
    meter TEXT NOT NULL,
    PRIMARY KEY (contract, meter)
) STRICT, WITHOUT ROWID;
CREATE TABLE grants (
    client TEXT NOT NULL,
    contract TEXT NOT NULL REFERENCES contracts (id) ON DELETE CASCADE,
    settled INTEGER NOT NULL,
    PRIMARY KEY (client, contract)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_contract ON grants (contract);
"""

# Readings of more than a day, which are not packed by day
LONG_READINGS = """
CREATE TABLE usage_long (
    stream INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    value ANY NOT NULL,
    exponent INTEGER NOT NULL,
    quality TEXT,
    cost INTEGER,
    origin INTEGER NOT NULL,
    said INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (stream, start, length)
) STRICT, WITHOUT ROWID;
"""

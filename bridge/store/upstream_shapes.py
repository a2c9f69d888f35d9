"""What the migration of reports upstream makes, in SQL."""

UPSTREAM_REPORTS = """
CREATE TABLE upstream_reporting (
    source TEXT PRIMARY KEY,
    offered TEXT,
    wanted_by TEXT NOT NULL,
    era INTEGER NOT NULL,
    alive INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE upstream_away (
    source TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (source, since)
) STRICT, WITHOUT ROWID;
CREATE TABLE upstream_requests (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    request_id TEXT NOT NULL,
    request TEXT NOT NULL,
    plan TEXT NOT NULL,
    said TEXT,
    era INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    ended INTEGER,
    UNIQUE (source, request_id)
) STRICT;
CREATE TABLE upstream_points (
    request INTEGER NOT NULL REFERENCES upstream_requests (id) ON DELETE CASCADE,
    r_id TEXT NOT NULL,
    reach INTEGER NOT NULL,
    PRIMARY KEY (request, r_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE upstream_gaps (
    request INTEGER NOT NULL REFERENCES upstream_requests (id) ON DELETE CASCADE,
    r_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    told INTEGER NOT NULL,
    PRIMARY KEY (request, r_id, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE upstream_updates (
    request INTEGER PRIMARY KEY REFERENCES upstream_requests (id) ON DELETE CASCADE,
    update_id TEXT NOT NULL,
    ven_id TEXT NOT NULL,
    made INTEGER NOT NULL,
    body TEXT NOT NULL,
    covers TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0
) STRICT;
"""

"""What each migration makes, in SQL; times are whole milliseconds since 1970."""

FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    operation TEXT NOT NULL,
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT;
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE sources (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    registration TEXT,
    heard INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE silences (
    source TEXT NOT NULL,
    stale_after INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (source, stale_after)
) STRICT, WITHOUT ROWID;

CREATE TABLE programs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    context TEXT NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (source, context)
) STRICT, WITHOUT ROWID;

CREATE TABLE origins (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    foreign_id TEXT NOT NULL,
    modification INTEGER NOT NULL,
    cancelled_at INTEGER,
    active_to INTEGER NOT NULL,
    meaning TEXT NOT NULL,
    response_required INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    opt TEXT,
    opt_due INTEGER,
    opt_told TEXT,
    message TEXT NOT NULL,
    UNIQUE (source, foreign_id)
) STRICT;
CREATE INDEX origins_by_end ON origins (source, active_to);
CREATE INDEX origins_undecided ON origins (opt_due) WHERE opt_due IS NOT NULL;

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    origin INTEGER NOT NULL REFERENCES origins (id),
    part INTEGER NOT NULL,
    program TEXT NOT NULL REFERENCES programs (id),
    modification INTEGER NOT NULL,
    cancelled_at INTEGER,
    test INTEGER NOT NULL,
    active_from INTEGER NOT NULL,
    active_to INTEGER NOT NULL,
    longest INTEGER NOT NULL,
    audiences TEXT NOT NULL,
    issued INTEGER NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (origin, part)
) STRICT;
CREATE INDEX events_by_end ON events (active_to);
CREATE INDEX events_by_program ON events (program, active_to);

CREATE TABLE tracks (
    event TEXT NOT NULL,
    device TEXT NOT NULL,
    modification INTEGER NOT NULL,
    shift INTEGER NOT NULL,
    started INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    fired_to INTEGER NOT NULL,
    next_at INTEGER,
    PRIMARY KEY (event, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX tracks_due ON tracks (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    program TEXT NOT NULL REFERENCES programs (id),
    payload_type TEXT NOT NULL,
    unit TEXT NOT NULL,
    currency TEXT NOT NULL,
    UNIQUE (program, payload_type, unit, currency)
) STRICT;
CREATE TABLE prices (
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    value ANY NOT NULL,
    exponent INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (series, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE price_revisions (
    series INTEGER NOT NULL,
    start INTEGER NOT NULL,
    replaced INTEGER NOT NULL,
    since INTEGER NOT NULL,
    length INTEGER NOT NULL,
    value ANY NOT NULL,
    exponent INTEGER NOT NULL,
    PRIMARY KEY (series, start, replaced, since)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    told TEXT,
    told_at INTEGER,
    disabled TEXT,
    last_success INTEGER,
    last_problem TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    turn INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    type TEXT NOT NULL,
    event TEXT,
    modification INTEGER NOT NULL,
    moment TEXT NOT NULL,
    instant INTEGER NOT NULL,
    body BLOB NOT NULL,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL,
    expires INTEGER,
    attempts INTEGER NOT NULL,
    outcome TEXT,
    settled INTEGER,
    problem TEXT,
    UNIQUE (device, event, modification, moment, instant)
) STRICT;
CREATE INDEX deliveries_owed ON deliveries (turn) WHERE outcome IS NULL;
CREATE INDEX deliveries_owed_to ON deliveries (device, type) WHERE outcome IS NULL;
CREATE INDEX deliveries_by_outcome ON deliveries (outcome);
CREATE INDEX deliveries_settled ON deliveries (settled) WHERE settled IS NOT NULL;
CREATE INDEX states_settled ON deliveries (settled)
    WHERE settled IS NOT NULL AND type = 'state.changed';

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
"""

PRICES = """
CREATE TABLE tariffs (
    program TEXT PRIMARY KEY REFERENCES programs (id),
    zone TEXT NOT NULL,
    basis TEXT,
    utility TEXT,
    rate TEXT,
    circuit TEXT,
    cca TEXT,
    curve TEXT,
    market TEXT,
    settlement_unit TEXT,
    derived_from TEXT,
    issued INTEGER NOT NULL,
    near_to INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tariffs_by_circuit ON tariffs (rate, circuit);
CREATE INDEX tariffs_by_near ON tariffs (near_to);

CREATE TABLE marks (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    mark TEXT NOT NULL,
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;

ALTER TABLE series ADD COLUMN longest INTEGER NOT NULL DEFAULT 0;
CREATE TABLE component_sets (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE prices (
    series INTEGER NOT NULL,
    day INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    closes INTEGER NOT NULL,
    broken INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (series, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE price_revisions (
    series INTEGER NOT NULL,
    day INTEGER NOT NULL,
    replaced INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (series, day, replaced)
) STRICT, WITHOUT ROWID;
"""

OPENADR3 = """
ALTER TABLE programs ADD COLUMN document TEXT;
ALTER TABLE programs ADD COLUMN audiences TEXT NOT NULL DEFAULT '[]';
ALTER TABLE programs ADD COLUMN deleted INTEGER;
CREATE INDEX programs_by_age ON programs (created, id);

ALTER TABLE events ADD COLUMN endless INTEGER NOT NULL DEFAULT 0;
CREATE INDEX events_aimed ON events (audiences) WHERE audiences <> '[]';

CREATE TABLE objects (
    turn INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    client TEXT,
    name TEXT NOT NULL,
    parent TEXT,
    program TEXT,
    targets TEXT NOT NULL,
    document TEXT NOT NULL,
    secrets TEXT,
    scopes TEXT,
    since INTEGER NOT NULL DEFAULT 0,
    disabled TEXT,
    last_problem TEXT,
    last_success INTEGER
) STRICT;
CREATE UNIQUE INDEX objects_vens ON objects (name) WHERE kind = 'VEN';
CREATE UNIQUE INDEX objects_clients ON objects (client) WHERE kind = 'VEN';
CREATE UNIQUE INDEX objects_resources ON objects (parent, name) WHERE kind = 'RESOURCE';
CREATE INDEX objects_by_client ON objects (kind, client, turn);
CREATE INDEX objects_by_parent ON objects (kind, parent, turn);
CREATE INDEX objects_by_program ON objects (kind, program, turn);
CREATE INDEX objects_by_name ON objects (kind, name, turn);

CREATE INDEX deliveries_to_broker ON deliveries (turn) WHERE outcome IS NULL AND device = 'mqtt:';

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    scopes TEXT NOT NULL,
    salt BLOB NOT NULL,
    hash BLOB NOT NULL,
    settled INTEGER NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE readings (
    meter TEXT NOT NULL,
    kind TEXT NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    value ANY NOT NULL,
    exponent INTEGER NOT NULL,
    unit TEXT,
    reading_type TEXT,
    quality TEXT,
    client TEXT NOT NULL,
    report TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (meter, kind, start, length, client)
) STRICT, WITHOUT ROWID;
CREATE INDEX readings_by_report ON readings (report);
"""

OPENADR2 = """
ALTER TABLE origins ADD COLUMN opt_by TEXT;

CREATE TABLE vens (
    name TEXT PRIMARY KEY,
    ven_id TEXT NOT NULL UNIQUE,
    registration_id TEXT,
    ven_name TEXT,
    signs INTEGER NOT NULL,
    test_events INTEGER NOT NULL,
    programs TEXT NOT NULL,
    resources TEXT NOT NULL,
    groups TEXT NOT NULL,
    created INTEGER NOT NULL,
    registered INTEGER,
    heard INTEGER,
    version INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE ven_certificates (
    fingerprint TEXT PRIMARY KEY,
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    sha256 TEXT UNIQUE,
    added INTEGER NOT NULL,
    seen INTEGER,
    ends INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE ven_offers (
    thing TEXT PRIMARY KEY,
    event TEXT NOT NULL UNIQUE,
    meaning TEXT NOT NULL,
    modification INTEGER NOT NULL,
    program TEXT NOT NULL,
    context TEXT NOT NULL,
    source TEXT NOT NULL,
    foreign_id TEXT NOT NULL,
    starts INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    released INTEGER,
    priority INTEGER NOT NULL,
    test INTEGER NOT NULL,
    priced INTEGER NOT NULL,
    required INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    audiences TEXT NOT NULL,
    xml TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ven_offers_by_end ON ven_offers (ends);
CREATE INDEX ven_offers_by_source ON ven_offers (source, foreign_id);
CREATE INDEX ven_offers_released ON ven_offers (released) WHERE released IS NOT NULL;

CREATE TABLE ven_events (
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    event TEXT NOT NULL,
    sent INTEGER NOT NULL,
    answered INTEGER,
    opt TEXT,
    at INTEGER NOT NULL,
    taken_back INTEGER,
    PRIMARY KEY (ven, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX ven_events_by_event ON ven_events (event);

CREATE TABLE ven_opts (
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    opt_id TEXT NOT NULL,
    opt TEXT NOT NULL,
    reason TEXT NOT NULL,
    context TEXT,
    event TEXT,
    modification INTEGER,
    times TEXT NOT NULL,
    resources TEXT NOT NULL,
    at INTEGER NOT NULL,
    ends INTEGER,
    PRIMARY KEY (ven, opt_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE ven_messages (
    turn INTEGER PRIMARY KEY AUTOINCREMENT,
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    request_id TEXT,
    payload TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX ven_messages_by_ven ON ven_messages (ven, kind);

CREATE TABLE ven_points (
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    specifier TEXT NOT NULL,
    name TEXT NOT NULL,
    points TEXT NOT NULL,
    PRIMARY KEY (ven, specifier)
) STRICT, WITHOUT ROWID;

CREATE TABLE ven_requests (
    request_id TEXT PRIMARY KEY,
    ven TEXT NOT NULL REFERENCES vens (name) ON DELETE CASCADE,
    specifier TEXT NOT NULL,
    name TEXT NOT NULL,
    request TEXT NOT NULL,
    asked INTEGER NOT NULL,
    heard INTEGER,
    ended INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX ven_requests_by_ven ON ven_requests (ven);

CREATE TABLE upstream_opts (
    source TEXT NOT NULL,
    foreign_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    opt TEXT NOT NULL,
    told TEXT,
    PRIMARY KEY (source, foreign_id, resource)
) STRICT, WITHOUT ROWID;
"""

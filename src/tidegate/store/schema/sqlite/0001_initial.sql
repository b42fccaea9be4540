-- Times are integers: milliseconds since 1970, UTC.

-- Process starts. Leases of another boot are void.
CREATE TABLE boots (
    id         TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    is_clean   INTEGER NOT NULL DEFAULT 0, -- 1 after an orderly stop
    probed_at  INTEGER
);

-- The hot row of a job. Bodies lie in tables of their own, so that it stays small.
CREATE TABLE jobs (
    seq                INTEGER PRIMARY KEY,
    id                 BLOB    NOT NULL, -- UUIDv7, 16 bytes
    request_type       TEXT    NOT NULL,
    owner              TEXT    NOT NULL, -- key:<id>, admin or anonymous
    actor              TEXT,
    model              TEXT    NOT NULL,
    candidates         TEXT    NOT NULL, -- JSON array of provider/model
    lane               TEXT    NOT NULL,
    weight             REAL    NOT NULL,
    result_ttl         INTEGER NOT NULL, -- seconds
    timeout            INTEGER NOT NULL, -- seconds
    max_attempts       INTEGER NOT NULL,
    priority           INTEGER NOT NULL,
    passes_extra       INTEGER NOT NULL,
    request_id         TEXT    NOT NULL,
    created_at         INTEGER NOT NULL,
    deadline_at        INTEGER NOT NULL,
    request_digest     INTEGER NOT NULL, -- CRC-32 of id and body, checked whenever the body is read

    status             TEXT    NOT NULL, -- pending, processing, completed, failed
    rank               REAL,             -- place in the lane; NULL while the job waits for run_at
    run_at             INTEGER,
    attempt            INTEGER NOT NULL DEFAULT 0,
    failed_attempts    INTEGER NOT NULL DEFAULT 0,
    losses             INTEGER NOT NULL DEFAULT 0,
    is_suspect         INTEGER NOT NULL DEFAULT 0, -- one more loss would end it
    dead_keys          TEXT,             -- JSON array of provider key ids
    started_at         INTEGER,          -- first claim
    attempt_started_at INTEGER,
    boot_id            TEXT,
    lease              BLOB,

    completed_at       INTEGER,
    expires_at         INTEGER,
    status_code        INTEGER,
    outcome            TEXT,
    result_digest      INTEGER,          -- CRC-32 of id and result, checked whenever the result is read
    error_code         TEXT,
    error              TEXT              -- JSON of the job error
);
CREATE UNIQUE INDEX jobs_by_id ON jobs (id);
CREATE INDEX jobs_by_owner ON jobs (owner, id);
CREATE INDEX jobs_ready ON jobs (lane, rank)
    WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect = 0;
CREATE INDEX jobs_suspect ON jobs (rank)
    WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect = 1;
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE status = 'pending' AND rank IS NULL;
CREATE INDEX jobs_processing ON jobs (boot_id) WHERE status = 'processing';
CREATE INDEX jobs_by_deadline ON jobs (deadline_at) WHERE status IN ('pending', 'processing');
CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE job_request (
    job  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

CREATE TABLE job_result (
    job  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- What a request says of itself: lists show it, and read no body for it.
CREATE TABLE job_metadata (
    job  INTEGER PRIMARY KEY,
    json BLOB NOT NULL
);

-- Attempts that are over; the one under way stands in the job's row.
CREATE TABLE attempts (
    job        INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    end        TEXT    NOT NULL,
    calls      TEXT,    -- JSON array
    lease      BLOB,    -- set where the store ended the attempt: lets its worker book the calls it made
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

-- How far each lane has come, and each owner in it (start-time fair queueing).
CREATE TABLE lanes (
    lane         TEXT PRIMARY KEY,
    virtual_time REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE tails (
    lane  TEXT NOT NULL,
    owner TEXT NOT NULL,
    tail  REAL NOT NULL,
    PRIMARY KEY (lane, owner)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    scope_digest BLOB PRIMARY KEY,
    fingerprint  BLOB    NOT NULL,
    job_id       BLOB    NOT NULL,
    keep_until   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (keep_until);

CREATE TABLE virtual_keys (
    id           TEXT PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    digest       BLOB    NOT NULL UNIQUE, -- SHA-256 of the secret
    created_at   INTEGER NOT NULL,
    record       TEXT    NOT NULL          -- JSON of everything else
) WITHOUT ROWID;

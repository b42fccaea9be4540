-- Times are integers: milliseconds since 1970, UTC, of the database's clock.

CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- Processes that run jobs. Whoever has not been seen for the length of a lease is dead; till then its jobs are its own.
CREATE TABLE workers (
    id         uuid   PRIMARY KEY,
    host       text   NOT NULL,
    pid        bigint NOT NULL,
    providers  text[] NOT NULL, -- those it serves; empty: all
    settings   text   NOT NULL, -- JSON of what all workers have to agree on
    started_at bigint NOT NULL,
    seen_at    bigint NOT NULL
);

-- The hot row of a job. Bodies lie in tables of their own, so that it stays small.
CREATE TABLE jobs (
    id                 uuid             PRIMARY KEY, -- UUIDv7
    request_type       text             NOT NULL,
    owner              text             NOT NULL, -- key:<id>, admin or anonymous
    actor              text,
    model              text             NOT NULL,
    candidates         text             NOT NULL, -- JSON array of provider/model
    lane               text             NOT NULL,
    weight             double precision NOT NULL,
    result_ttl         integer          NOT NULL, -- seconds
    timeout            integer          NOT NULL, -- seconds
    max_attempts       integer          NOT NULL,
    priority           integer          NOT NULL,
    passes_extra       boolean          NOT NULL,
    request_id         text             NOT NULL,
    created_at         bigint           NOT NULL,
    deadline_at        bigint           NOT NULL,

    status             text             NOT NULL, -- pending, processing, completed, failed
    rank               double precision,          -- place in the lane; NULL while the job waits for run_at
    run_at             bigint,
    attempt            integer          NOT NULL DEFAULT 0,
    failed_attempts    integer          NOT NULL DEFAULT 0,
    losses             integer          NOT NULL DEFAULT 0,
    is_suspect         boolean          NOT NULL DEFAULT false, -- one more loss would end it
    dead_keys          text,                      -- JSON array of provider key ids
    started_at         bigint,                    -- first claim
    attempt_started_at bigint,
    worker             uuid,
    lease              bytea,

    completed_at       bigint,
    expires_at         bigint,
    status_code        integer,
    outcome            text,
    error_code         text,
    error              bytea                      -- JSON of the job error
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX jobs_by_owner ON jobs (owner, id);
CREATE INDEX jobs_ready ON jobs (lane, rank)
    WHERE status = 'pending' AND rank IS NOT NULL AND NOT is_suspect;
CREATE INDEX jobs_suspect ON jobs (rank)
    WHERE status = 'pending' AND rank IS NOT NULL AND is_suspect;
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE status = 'pending' AND rank IS NULL;
-- None of these may be of use to a statement that merely names a status: a planner that takes such an index for nearly
-- empty, as after a vacuum in a quiet hour, would read a whole backlog by it.
CREATE INDEX jobs_of_worker ON jobs (worker) WHERE worker IS NOT NULL;
CREATE INDEX jobs_running ON jobs (lane) WHERE lease IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs ((CASE WHEN status IN ('pending', 'processing') THEN deadline_at END))
    WHERE (CASE WHEN status IN ('pending', 'processing') THEN deadline_at END) IS NOT NULL;
CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;

-- Compressing bodies costs five times the processor time of storing them as they are.
CREATE TABLE job_request (
    job  uuid  PRIMARY KEY,
    body bytea NOT NULL
) WITH (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_request ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE job_result (
    job  uuid  PRIMARY KEY,
    body bytea NOT NULL
) WITH (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE job_result ALTER COLUMN body SET STORAGE EXTERNAL;

-- What a request says of itself: lists show it, and read no body for it.
CREATE TABLE job_metadata (
    job  uuid  PRIMARY KEY,
    json bytea NOT NULL
);

-- Attempts that are over; the one under way stands in the job's row.
CREATE TABLE attempts (
    job        uuid    NOT NULL,
    number     integer NOT NULL,
    started_at bigint  NOT NULL,
    ended_at   bigint  NOT NULL,
    "end"      text    NOT NULL,
    calls      bytea,   -- JSON array
    lease      bytea,   -- whose attempt it was: its worker may book calls afterwards
    is_settled boolean NOT NULL DEFAULT false, -- its worker ended it, not the store
    PRIMARY KEY (job, number)
) WITH (autovacuum_vacuum_cost_delay = 0);

-- How far each lane has come, and each owner in it (start-time fair queueing).
CREATE TABLE lanes (
    lane         text             PRIMARY KEY,
    virtual_time double precision NOT NULL
) WITH (fillfactor = 20);

CREATE TABLE tails (
    lane  text             NOT NULL,
    owner text             NOT NULL,
    tail  double precision NOT NULL,
    added double precision NOT NULL, -- by the latest batch
    PRIMARY KEY (lane, owner)
) WITH (fillfactor = 20);

CREATE TABLE idempotency (
    scope_digest bytea  PRIMARY KEY,
    fingerprint  bytea  NOT NULL,
    job_id       uuid   NOT NULL,
    keep_until   bigint NOT NULL
);
CREATE INDEX idempotency_by_age ON idempotency (keep_until);

CREATE TABLE virtual_keys (
    id         text   PRIMARY KEY,
    name       text   NOT NULL UNIQUE,
    digest     bytea  NOT NULL UNIQUE, -- SHA-256 of the secret
    created_at bigint NOT NULL,
    record     text   NOT NULL          -- JSON of everything else
);

-- When somebody last looked for dead workers, and since when somebody has been looking without a gap: after an outage
-- of the database, or a step of its clock, the living must get the time to say so before anybody is declared dead.
CREATE TABLE watch (
    looked_at    bigint NOT NULL,
    steady_since bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO watch VALUES (0, 0);

-- Readiness is a write that reached the disk.
CREATE TABLE probe (
    probed_at bigint
);
INSERT INTO probe DEFAULT VALUES;

-- Long work that outlives the call that asked for it, and the server that works on it.
CREATE TABLE job (
    tenant_id    text        NOT NULL REFERENCES tenant,
    job_id       text        NOT NULL CHECK (job_id <> ''),
    method       text        NOT NULL,
    request      bytea       NOT NULL,  -- encoded by the caller
    about        text        NOT NULL DEFAULT '',
    author       text        NOT NULL,
    state        text        NOT NULL DEFAULT 'QUEUED'
        CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    progress     float8,                -- part done; NULL: not known
    attempts     int4        NOT NULL DEFAULT 0,
    create_time  timestamptz NOT NULL DEFAULT clock_timestamp(),
    start_time   timestamptz,
    end_time     timestamptz,
    claim_id     uuid,                  -- of the server that works on it
    claim_time   timestamptz,           -- until then it is believed to live
    cancel_time  timestamptz,           -- when its end was asked for
    answer       bytea,                 -- of a job that has succeeded
    failure      text,                  -- of one that has failed, JSON
    PRIMARY KEY (tenant_id, job_id)
);
CREATE INDEX job_by_time ON job (tenant_id, create_time DESC);
CREATE INDEX job_open ON job (create_time) WHERE state IN ('QUEUED', 'RUNNING');

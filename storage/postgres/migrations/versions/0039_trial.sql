-- Settings that were tried on past prices, once each: what luck in the best of them is counted by.
CREATE TABLE trial (
    tenant_id     text        NOT NULL REFERENCES tenant,
    experiment    text        NOT NULL CHECK (experiment <> ''),
    trial_hash    bytea       NOT NULL CHECK (octet_length(trial_hash) = 32),  -- of setting and span
    first_date    date        NOT NULL,
    last_date     date        NOT NULL CHECK (last_date >= first_date),
    sharpe        float8,     -- a session; NULL: not defined
    method        text        NOT NULL,
    author        text        NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, experiment, trial_hash)
);
-- Each time that the locked sessions of a search were looked at.
CREATE TABLE locked_opening (
    tenant_id     text        NOT NULL REFERENCES tenant,
    opening_id    uuid        NOT NULL,
    experiment    text        NOT NULL CHECK (experiment <> ''),
    first_date    date        NOT NULL,
    last_date     date        NOT NULL CHECK (last_date >= first_date),
    author        text        NOT NULL,
    create_time   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, opening_id)
);
CREATE INDEX locked_opening_by_time ON locked_opening (tenant_id, experiment, create_time DESC);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trial
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON locked_opening
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

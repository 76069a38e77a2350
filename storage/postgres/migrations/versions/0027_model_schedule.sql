-- Models that are trained again and again by the service.
CREATE TABLE model_schedule (
    tenant_id        text        NOT NULL REFERENCES tenant,
    schedule_id      text        NOT NULL CHECK (schedule_id <> ''),
    universe_id      text        NOT NULL,
    document         bytea       NOT NULL,  -- encoded by the caller
    author           text        NOT NULL,
    update_time      timestamptz NOT NULL DEFAULT clock_timestamp(),
    train_time       timestamptz NOT NULL,  -- of the next training
    trained_parts    int8        NOT NULL DEFAULT 0,  -- of the history, that the last version knew
    scored_parts     int8        NOT NULL DEFAULT 0,
    claim_time       timestamptz,           -- until then a process works on it
    failure          text        NOT NULL DEFAULT '',
    warned_model_id  text        NOT NULL DEFAULT '',  -- whose lost edge has been told
    PRIMARY KEY (tenant_id, schedule_id)
);

-- The schedule that a model is a version of; empty: none.
ALTER TABLE model ADD COLUMN schedule_id text NOT NULL DEFAULT '';
CREATE INDEX model_by_schedule ON model (tenant_id, schedule_id, create_time)
    WHERE schedule_id <> '';

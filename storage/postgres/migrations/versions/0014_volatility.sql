-- How volatilities are estimated; the model in use under an id is its row of highest version.
CREATE TABLE volatility_model (
    tenant_id       text        NOT NULL REFERENCES tenant,
    model_id        text        NOT NULL CHECK (model_id <> ''),
    version         int8        NOT NULL,
    document        jsonb       NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, model_id, version)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON volatility_model
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What each model has made of the market snapshots so far: one row, moved by every snapshot. It can be
-- computed anew from them.
CREATE TABLE volatility_state (
    tenant_id       text        NOT NULL,
    model_id        text        NOT NULL,
    model_version   int8        NOT NULL,
    version         int8        NOT NULL,
    start_time      timestamptz,          -- of the first snapshot taken in; NULL before it
    as_of_time      timestamptz,          -- of the newest
    snapshot_id     text        NOT NULL, -- that one; '' before the first
    bucket          int8        NOT NULL, -- its period
    periods         int8        NOT NULL,
    late            int8        NOT NULL,
    instrument_id   text[]      NOT NULL,
    payload         bytea       NOT NULL, -- encoded by the caller
    PRIMARY KEY (tenant_id, model_id),
    FOREIGN KEY (tenant_id, model_id, model_version) REFERENCES volatility_model
);

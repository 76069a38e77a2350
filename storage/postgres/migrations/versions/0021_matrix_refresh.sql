-- Matrices that are estimated again when the history of their universe moves: one of a kind a universe.
CREATE TABLE matrix_refresh (
    tenant_id        text        NOT NULL REFERENCES tenant,
    universe_id      text        NOT NULL,
    kind             text        NOT NULL,
    request          bytea       NOT NULL,  -- as it was asked for the first time
    history_parts    int8        NOT NULL,  -- that had been stored when it was estimated
    matrix_id        text        NOT NULL,  -- the last one that was estimated
    failure          text        NOT NULL DEFAULT '',  -- of the last attempt; empty where it went well
    update_time      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, universe_id, kind)
);

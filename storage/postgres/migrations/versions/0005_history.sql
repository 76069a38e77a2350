-- Parts of the histories of a universe. What was known at a time is put together from the parts
-- known until then, the later ones over the earlier. Parts are never changed.
CREATE TABLE history_part (
    tenant_id       text        NOT NULL REFERENCES tenant,
    universe_id     text        NOT NULL CHECK (universe_id <> ''),
    sequence        int8        NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind            text        NOT NULL,
    known_time      timestamptz NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_time      timestamptz NOT NULL,  -- of its observations
    last_time       timestamptz NOT NULL,
    instrument_id   text[]      NOT NULL,
    digest          bytea       NOT NULL,  -- of what the caller sent, so that it is stored once
    payload         bytea       NOT NULL,  -- encoded by the caller
    PRIMARY KEY (tenant_id, universe_id, sequence),
    UNIQUE (tenant_id, universe_id, digest)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON history_part
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

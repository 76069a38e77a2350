-- What the market is like, as other services see it. A condition's observations come in the order of
-- their times.
CREATE TABLE condition_observation (
    tenant_id       text        NOT NULL REFERENCES tenant,
    condition_id    text        NOT NULL CHECK (condition_id <> ''),
    as_of_time      timestamptz NOT NULL,
    value           float8,
    category        text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, condition_id, as_of_time)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON condition_observation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

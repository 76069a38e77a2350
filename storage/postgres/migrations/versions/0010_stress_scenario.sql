-- A scenario is its row of highest version; older rows are the history.
CREATE TABLE stress_scenario (
    tenant_id       text        NOT NULL REFERENCES tenant,
    scenario_id     text        NOT NULL CHECK (scenario_id <> ''),
    version         int8        NOT NULL,
    author          text        NOT NULL,
    retired         boolean     NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload         bytea       NOT NULL,  -- encoded by the caller
    PRIMARY KEY (tenant_id, scenario_id, version)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stress_scenario
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

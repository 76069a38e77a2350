-- Features that are made together. A set never changes.
CREATE TABLE feature_set (
    tenant_id       text        NOT NULL REFERENCES tenant,
    feature_set_id  text        NOT NULL CHECK (feature_set_id <> ''),
    features        text[]      NOT NULL,
    feature_version text        NOT NULL,
    age_max_s       float8      CHECK (age_max_s > 0),  -- older values are not used; NULL: any age
    schema_hash     text        NOT NULL,
    author          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, feature_set_id)
);
-- Values of an instrument, true at as_of_time. Corrections are rows with a later known_time.
CREATE TABLE feature_row (
    tenant_id       text        NOT NULL,
    feature_set_id  text        NOT NULL,
    instrument_id   text        NOT NULL CHECK (instrument_id <> ''),
    as_of_time      timestamptz NOT NULL,
    known_time      timestamptz NOT NULL,
    feature_values  float8[]    NOT NULL,  -- in the order of the set
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, feature_set_id, instrument_id, as_of_time, known_time),
    FOREIGN KEY (tenant_id, feature_set_id) REFERENCES feature_set,
    CHECK (known_time >= as_of_time)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON feature_set
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON feature_row
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A model never changes; where it has come to is its last stage.
CREATE TABLE model (
    tenant_id       text        NOT NULL REFERENCES tenant,
    model_id        text        NOT NULL CHECK (model_id <> ''),
    author          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    document        text        NOT NULL,  -- the model, as JSON
    hash            bytea       NOT NULL CHECK (hash = sha256(convert_to(document, 'UTF8'))),
    details         bytea       NOT NULL,  -- its record, encoded by the caller
    PRIMARY KEY (tenant_id, model_id)
);
CREATE TABLE model_stage (
    tenant_id       text        NOT NULL,
    model_id        text        NOT NULL,
    sequence        int8        NOT NULL,
    stage           text        NOT NULL CHECK (stage IN ('CANDIDATE', 'SHADOW', 'LIVE', 'RETIRED')),
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, model_id, sequence),
    FOREIGN KEY (tenant_id, model_id) REFERENCES model
);
-- Bets that came after the training and what the model had said of them.
CREATE TABLE model_score (
    tenant_id       text        NOT NULL,
    model_id        text        NOT NULL,
    sequence        int8        NOT NULL,
    author          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload         bytea       NOT NULL,  -- encoded by the caller
    PRIMARY KEY (tenant_id, model_id, sequence),
    FOREIGN KEY (tenant_id, model_id) REFERENCES model
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON model
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON model_stage
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON model_score
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

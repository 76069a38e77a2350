-- Splits, changes of lot size and multiplier, dividends: what was applied, and what it does to a price
-- from before: price_factor x price - payment.
CREATE TABLE corporate_action (
    tenant_id       text        NOT NULL REFERENCES tenant,
    sequence        int8        GENERATED ALWAYS AS IDENTITY,
    request_id      uuid        NOT NULL,
    instrument_id   text        NOT NULL,
    kind            text        NOT NULL,
    effective_time  timestamptz NOT NULL,
    price_factor    float8      NOT NULL,
    payment         float8      NOT NULL,
    payload         bytea       NOT NULL,  -- the action, encoded by the caller
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, sequence),
    UNIQUE (tenant_id, instrument_id, kind, effective_time)
);
CREATE INDEX corporate_action_by_time ON corporate_action (tenant_id, effective_time);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON corporate_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

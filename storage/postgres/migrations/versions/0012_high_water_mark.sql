-- The highest equity of a portfolio since its drawdown floor was first used, scaled by what was paid in
-- and out since. One row a portfolio; without a row there is no mark yet.
CREATE TABLE high_water_mark (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    equity          float8      NOT NULL CHECK (equity > 0),
    update_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);

-- Marks set anew by operators.
CREATE TABLE high_water_mark_rebase (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    version         int8        NOT NULL,
    equity_before   float8      NOT NULL,
    equity_after    float8      NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, version),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON high_water_mark_rebase
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

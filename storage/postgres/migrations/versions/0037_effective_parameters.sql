-- What was told last of the rules that move the parameters of a portfolio and a strategy ('' for none):
-- [source, name, instrument, multiplier] of each multiplier below 1.
CREATE TABLE effective_parameters (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    strategy_id     text        NOT NULL,
    told            jsonb       NOT NULL DEFAULT '[]',
    update_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, strategy_id),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);
-- When the rules of a tenant were looked at last, by any server.
CREATE TABLE effective_parameters_look (
    tenant_id       text        PRIMARY KEY REFERENCES tenant,
    look_time       timestamptz NOT NULL DEFAULT clock_timestamp()
);

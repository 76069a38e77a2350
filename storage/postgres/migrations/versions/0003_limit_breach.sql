-- Limits a portfolio was found beyond and not yet found within again: an episode a row, so that it
-- is told once. Written under the portfolio's lock, together with a new version of it.
CREATE TABLE limit_breach (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    limit_kind      int2        NOT NULL,  -- number of the contract's LimitKind
    limit_name      text        NOT NULL,  -- instrument, the limit's group, or 'portfolio'
    begin_time      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, limit_kind, limit_name),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio ON DELETE CASCADE
);

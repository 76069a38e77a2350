-- The zone whose midnight begins a portfolio's trading day.
ALTER TABLE portfolio ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';

-- The day of a portfolio under a limit on the loss of a day: its equity when the day began, and the one
-- that losses count from (lower once the limit was passed). One row a portfolio, of its newest day.
CREATE TABLE trading_day (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    day             date        NOT NULL,
    equity_start    float8      NOT NULL,
    equity_reference float8     NOT NULL,
    equity_last     float8      NOT NULL,
    pass_time       timestamptz,  -- when the limit was passed last, on this day
    update_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);

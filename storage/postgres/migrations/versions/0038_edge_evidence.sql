-- How far the decisions of a portfolio and a strategy ('' for none) are analyzed, and what their bets say of
-- the edge so far: logarithms of e-values, of decisions made from begin_time on (unset: none counts yet).
CREATE TABLE edge_evidence (
    tenant_id       text             NOT NULL,
    portfolio_id    text             NOT NULL,
    strategy_id     text             NOT NULL,
    -- Whether decisions were made since it was looked at last.
    is_due          boolean          NOT NULL DEFAULT true,
    -- Decisions made from then on are not analyzed yet.
    next_time       timestamptz      NOT NULL,
    begin_time      timestamptz,
    decisions       bigint           NOT NULL DEFAULT 0,
    bets            bigint           NOT NULL DEFAULT 0,
    log_gone        double precision NOT NULL DEFAULT 0,
    log_edge        double precision NOT NULL DEFAULT 0,
    -- Where trading was reduced because the edge is gone, of what: PORTFOLIO or STRATEGY. Nothing counts
    -- until a person resumes it.
    reduced         text             NOT NULL DEFAULT '' CHECK (reduced IN ('', 'PORTFOLIO', 'STRATEGY')),
    update_time     timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, strategy_id),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);
CREATE INDEX edge_evidence_due ON edge_evidence (tenant_id, update_time) WHERE is_due;
-- When the decisions of a tenant were looked for last, by any server.
CREATE TABLE edge_evidence_look (
    tenant_id       text        PRIMARY KEY REFERENCES tenant,
    look_time       timestamptz NOT NULL DEFAULT clock_timestamp()
);

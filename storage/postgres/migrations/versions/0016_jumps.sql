-- Prices and exchange rates of a snapshot that are too far from the last accepted ones. A row goes when
-- somebody confirms it, or what explains it is recorded.
CREATE TABLE price_jump (
    tenant_id       text        NOT NULL,
    snapshot_id     text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('PRICE', 'RATE')),
    name            text        NOT NULL,  -- the instrument, or the pair as EUR/USD
    accepted        float8      NOT NULL,  -- the last accepted price as quoted, or rate
    accepted_time   timestamptz NOT NULL,  -- as_of_time of the snapshot that had it
    PRIMARY KEY (tenant_id, snapshot_id, kind, name),
    FOREIGN KEY (tenant_id, snapshot_id) REFERENCES market_snapshot
);

-- Equity of the last recorded decision, in the base currency; NULL: any will be accepted next.
ALTER TABLE portfolio ADD COLUMN equity_accepted float8;

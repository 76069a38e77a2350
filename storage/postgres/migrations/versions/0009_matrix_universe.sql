ALTER TABLE market_matrix ADD COLUMN universe_id text NOT NULL DEFAULT '';
CREATE INDEX market_matrix_by_universe
    ON market_matrix (tenant_id, universe_id, as_of_time DESC, create_time DESC)
    WHERE universe_id <> '';

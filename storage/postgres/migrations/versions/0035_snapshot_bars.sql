-- Whether the caller's encoding holds opening, highest and lowest prices: range models of volatility take
-- their sample from these snapshots only.
ALTER TABLE market_snapshot ADD COLUMN has_bars boolean NOT NULL DEFAULT false;

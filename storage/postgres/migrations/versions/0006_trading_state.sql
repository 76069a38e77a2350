-- The tenant's version after the change, which is what decisions carry; 0 where it was not noted.
ALTER TABLE trading_state ADD COLUMN tenant_version int8 NOT NULL DEFAULT 0;

-- Compressing a payload takes longer than writing it, and happens under the portfolio's lock.
ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL;

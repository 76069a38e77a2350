-- Accounts in other currencies than the base, an object of amounts by code; `cash` stays the base's.
ALTER TABLE portfolio ADD COLUMN cash_balances jsonb NOT NULL DEFAULT '{}';

-- The same of a report of fills; `cash_change` is of the base currency.
ALTER TABLE settlement ADD COLUMN balances_change jsonb NOT NULL DEFAULT '{}';

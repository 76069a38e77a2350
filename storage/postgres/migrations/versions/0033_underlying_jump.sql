-- The price of an option's underlying, which its exposure is counted by, may jump as well.
ALTER TABLE price_jump DROP CONSTRAINT price_jump_kind_check;
ALTER TABLE price_jump ADD CONSTRAINT price_jump_kind_check CHECK (kind IN ('PRICE', 'UNDERLYING', 'RATE'));

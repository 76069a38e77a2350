-- Which of a shard's producer names is in use. A name that the broker holds on to, for a producer that
-- is gone, is given up for the next; the noted batch belongs to the name.
ALTER TABLE outbox_batch ADD COLUMN epoch int4 NOT NULL DEFAULT 0;

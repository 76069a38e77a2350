-- A closed portfolio holds nothing and is sized no more; its id stays taken, since decisions and events
-- name it for ever.
ALTER TABLE portfolio ADD COLUMN close_time timestamptz;

-- What decides beside a model's document has a hash of its own: its record (who is proven, how old features may
-- be, whether unbounded intervals refuse) and the bets that it was scored on. The rows that are there get theirs
-- now, by a generated column that then stops being one, as no row of these tables may be updated.
ALTER TABLE model ADD COLUMN details_hash bytea NOT NULL GENERATED ALWAYS AS (sha256(details)) STORED;
ALTER TABLE model ALTER COLUMN details_hash DROP EXPRESSION;
ALTER TABLE model ADD CHECK (details_hash = sha256(details));
ALTER TABLE model_score ADD COLUMN payload_hash bytea NOT NULL GENERATED ALWAYS AS (sha256(payload)) STORED;
ALTER TABLE model_score ALTER COLUMN payload_hash DROP EXPRESSION;
ALTER TABLE model_score ADD CHECK (payload_hash = sha256(payload));

-- Servers of the release before add rows without one.
CREATE FUNCTION hash_model() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.details_hash := coalesce(NEW.details_hash, sha256(NEW.details));
    RETURN NEW;
END $$;
CREATE FUNCTION hash_model_score() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.payload_hash := coalesce(NEW.payload_hash, sha256(NEW.payload));
    RETURN NEW;
END $$;
CREATE TRIGGER hashed BEFORE INSERT ON model FOR EACH ROW EXECUTE FUNCTION hash_model();
CREATE TRIGGER hashed BEFORE INSERT ON model_score FOR EACH ROW EXECUTE FUNCTION hash_model_score();

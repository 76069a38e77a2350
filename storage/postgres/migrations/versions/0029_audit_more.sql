-- Webhooks, schedules of models and what stage a model is in are audited as well. Rows of the first two can
-- be removed, which is an event too, and have columns that the service itself keeps, which are left out.
ALTER TABLE webhook ADD COLUMN changed_by text NOT NULL DEFAULT '';  -- empty: since its creation, nobody
UPDATE webhook SET changed_by = author;

CREATE OR REPLACE VIEW audited_table (table_name, key_columns, left_out) AS VALUES
    ('limit_set', ARRAY['scope_kind', 'scope_id', 'version'], '{}'::text[]),
    ('trading_state', ARRAY['scope_kind', 'scope_id', 'version'], '{}'),
    ('parameter_set', ARRAY['portfolio_id', 'strategy_id', 'version'], '{}'),
    ('approval_policy', ARRAY['version'], '{}'),
    ('proposal', ARRAY['proposal_id'], '{}'),
    ('proposal_decision', ARRAY['proposal_id'], '{}'),
    ('high_water_mark_rebase', ARRAY['portfolio_id', 'version'], '{}'),
    ('corporate_action', ARRAY['sequence'], '{}'),
    ('api_key', ARRAY['key_id'], ARRAY['hash']),
    ('identity_block', ARRAY['subject'], '{}'),
    ('webhook', ARRAY['webhook_id'], ARRAY['secret', 'secret_before']),
    ('model_schedule', ARRAY['schedule_id'], ARRAY['train_time', 'trained_parts', 'scored_parts',
        'claim_time', 'failure', 'warned_model_id']),
    ('model_stage', ARRAY['model_id', 'sequence'], '{}');

-- A row as it is kept. Of secrets, which are encrypted, only that they are still the same.
CREATE FUNCTION audit_document(name text, content jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT content - coalesce((SELECT left_out FROM audited_table WHERE table_name = name), '{}')
        || CASE WHEN content ? 'secret' THEN jsonb_build_object('secrets_sha256', encode(sha256(
            convert_to(concat_ws(' ', content ->> 'secret', content ->> 'secret_before'), 'UTF8')
        ), 'hex')) ELSE '{}' END
$$;

CREATE OR REPLACE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET timezone = 'UTC' SET bytea_output = 'hex' SET search_path FROM CURRENT AS $$
DECLARE
    content jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
    key text := audit_key(content, VARIADIC TG_ARGV);
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM audit_append(OLD.tenant_id, clock_timestamp(), TG_TABLE_NAME, key, jsonb_build_object(
            'removed', true, 'author', coalesce(current_setting('sizing.author', true), ''))::text);
        RETURN NULL;
    END IF;
    PERFORM audit_append(NEW.tenant_id, clock_timestamp(), TG_TABLE_NAME, key,
        audit_document(TG_TABLE_NAME, content)::text);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION audited_rows()
RETURNS TABLE (table_name text, row_key text, content jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET timezone = 'UTC' SET bytea_output = 'hex' SET search_path FROM CURRENT AS $$
DECLARE
    item record;
    tenant text := current_setting('sizing.tenant_id', true);
BEGIN
    FOR item IN SELECT * FROM audited_table LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, audit_key(c, VARIADIC %L::text[]), c FROM '
            '(SELECT audit_document(%L, to_jsonb(t)) AS c FROM %I AS t WHERE tenant_id = $1) AS r',
            item.table_name, item.key_columns, item.table_name, item.table_name) USING tenant;
    END LOOP;
END
$$;

CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON webhook
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('webhook_id');
CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE OF universe_id, document, author, update_time OR DELETE
    ON model_schedule DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('schedule_id');
CREATE CONSTRAINT TRIGGER audit AFTER INSERT ON model_stage
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('model_id', 'sequence');

-- What is there already is in the chain from now on.
DO $$
DECLARE
    item record;
    found record;
BEGIN
    SET LOCAL timezone = 'UTC';
    SET LOCAL bytea_output = 'hex';
    FOR item IN SELECT * FROM audited_table WHERE table_name IN ('webhook', 'model_schedule', 'model_stage')
    LOOP
        FOR found IN EXECUTE format(
            'SELECT tenant_id, to_jsonb(t) AS content FROM %I AS t', item.table_name)
        LOOP
            PERFORM audit_append(found.tenant_id, clock_timestamp(), item.table_name,
                audit_key(found.content, VARIADIC item.key_columns),
                audit_document(item.table_name, found.content)::text);
        END LOOP;
    END LOOP;
END
$$;
DROP FUNCTION audit_document(jsonb);

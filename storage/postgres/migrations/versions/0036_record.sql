-- Decisions and settlements with their requests and answers as records: each with a digest of all that
-- it says. What the digest is of is named column by column: a column that is added later is not in it.
CREATE FUNCTION audit_bytes(content bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(octet_length(content) || ':', 'UTF8') || content
$$;

CREATE VIEW record WITH (security_invoker = true) AS
SELECT said.*, sha256(audit_field(kind) || audit_field(record_id::text)
    || audit_field(decision_id::text) || audit_field(portfolio_id)
    || audit_field((extract(epoch FROM create_time) * 1000000)::int8::text)
    || audit_field(content) || audit_bytes(inputs) || audit_field(request_id::text)
    || audit_field(method) || audit_bytes(request_hash) || audit_bytes(request)
    || audit_bytes(response)) AS digest
FROM (
    SELECT d.tenant_id, 'DECISION' AS kind, d.decision_id AS record_id, d.decision_id, d.portfolio_id,
        d.create_time, jsonb_build_array(d.kind, d.strategy_id, d.portfolio_sequence, d.status,
            d.versions, d.instrument_id, d.lots, d.weight, d.notional, d.price, d.line_status)::text
            AS content,
        d.inputs, r.request_id, r.method, r.request_hash, r.request, r.response
    FROM decision AS d JOIN request AS r USING (tenant_id, request_id)
    UNION ALL
    SELECT s.tenant_id, 'SETTLEMENT', s.settlement_id, s.decision_id, s.portfolio_id, s.create_time,
        jsonb_build_array(s.outcome, s.cash_change, s.balances_change, s.instrument_id, s.lots,
            s.price)::text,
        ''::bytea, r.request_id, r.method, r.request_hash, r.request, r.response
    FROM settlement AS s JOIN request AS r USING (tenant_id, request_id)
) AS said;
CREATE INDEX settlement_by_time ON settlement (tenant_id, create_time, settlement_id);

-- What is in an archive and no longer here: enough to say so, and to recompute the seals.
CREATE TABLE archived_record (
    tenant_id       text        NOT NULL REFERENCES tenant,
    record_id       uuid        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('DECISION', 'SETTLEMENT')),
    decision_id     uuid        NOT NULL,
    portfolio_id    text        NOT NULL,
    create_time     timestamptz NOT NULL,  -- of the record
    digest          bytea       NOT NULL CHECK (octet_length(digest) = 32),
    archive         text        NOT NULL,  -- its name
    archive_time    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, record_id)
);
CREATE INDEX archived_record_by_time ON archived_record (tenant_id, create_time, record_id);
CREATE INDEX archived_decision_by_portfolio ON archived_record (tenant_id, portfolio_id, create_time)
    WHERE kind = 'DECISION';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archived_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Set: request and answer are in that archive, and empty here. The id and the hash stay, so that the
-- request is never carried out a second time.
ALTER TABLE request ADD COLUMN archive text;

-- Of which days records were removed, once more whenever more of a day was.
CREATE TABLE retention (
    tenant_id       text        NOT NULL REFERENCES tenant,
    retention_id    uuid        NOT NULL,
    day             date        NOT NULL,
    decisions       int8        NOT NULL,
    settlements     int8        NOT NULL,
    archive         text        NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, retention_id)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON retention
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The records of a period, by their digests in the order of time and id. Each period begins where the
-- one before ends, so that what is put into the past later is found as well.
CREATE TABLE record_seal (
    tenant_id       text        NOT NULL REFERENCES tenant,
    sequence        int8        NOT NULL,  -- 1, 2, 3, ... without a gap
    start_time      timestamptz NOT NULL,  -- included
    end_time        timestamptz NOT NULL CHECK (end_time > start_time),  -- not included
    records         int8        NOT NULL,
    digest          bytea       NOT NULL CHECK (octet_length(digest) = 32),
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, sequence)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON record_seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- archive_records() sets it, and its rights are the owner's alone.
    IF TG_TABLE_NAME IN ('request', 'decision', 'settlement') AND TG_OP IN ('UPDATE', 'DELETE')
        AND current_setting('sizing.archiving', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

-- Removes those of the decisions, with their reservations and settlements, of which everything is as it
-- was told: each record's digest is the one that came with its id. What is open, or is settled in this
-- moment, stays, and so does a decision of whose settlements one was not told. Which were removed.
CREATE FUNCTION archive_records(tenant text, ids uuid[], digests bytea[], name text)
RETURNS TABLE (removed_kind text, removed_time timestamptz)
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
    quiet uuid[];
    going uuid[];
    asked uuid[];  -- requests
BEGIN
    -- Who settles a decision holds its row, by the foreign key.
    quiet := ARRAY(SELECT d.decision_id FROM decision AS d
        WHERE d.tenant_id = tenant AND d.decision_id = ANY (ids) FOR UPDATE SKIP LOCKED);
    going := ARRAY(
        SELECT quiet_id FROM unnest(quiet) AS quiet_id
        WHERE NOT EXISTS (SELECT FROM reservation AS r WHERE r.tenant_id = tenant
                AND r.decision_id = quiet_id AND r.state = 'OPEN')
            AND NOT EXISTS (SELECT FROM record AS r WHERE r.tenant_id = tenant
                AND r.decision_id = quiet_id AND NOT EXISTS (
                    SELECT FROM unnest(ids, digests) AS told (id, digest)
                    WHERE told.id = r.record_id AND told.digest = r.digest)));
    asked := ARRAY(SELECT DISTINCT r.request_id FROM record AS r
        WHERE r.tenant_id = tenant AND r.decision_id = ANY (going));
    RETURN QUERY INSERT INTO archived_record (tenant_id, record_id, kind, decision_id, portfolio_id,
            create_time, digest, archive)
        SELECT r.tenant_id, r.record_id, r.kind, r.decision_id, r.portfolio_id, r.create_time, r.digest, name
        FROM record AS r WHERE r.tenant_id = tenant AND r.decision_id = ANY (going)
        RETURNING kind, create_time;
    PERFORM set_config('sizing.archiving', 'on', true);
    DELETE FROM settlement AS s WHERE s.tenant_id = tenant AND s.decision_id = ANY (going);
    DELETE FROM reservation AS r WHERE r.tenant_id = tenant AND r.decision_id = ANY (going);
    DELETE FROM decision AS d WHERE d.tenant_id = tenant AND d.decision_id = ANY (going);
    UPDATE request AS r SET request = '', response = '', archive = name
    WHERE r.tenant_id = tenant AND r.request_id = ANY (asked)
        AND NOT EXISTS (SELECT FROM decision AS d
            WHERE d.tenant_id = tenant AND d.request_id = r.request_id);
    PERFORM set_config('sizing.archiving', 'off', true);
END
$$;
REVOKE EXECUTE ON FUNCTION archive_records FROM PUBLIC;

-- Seals and removals are in the chain of changes, which so covers the records.
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
    ('model_stage', ARRAY['model_id', 'sequence'], '{}'),
    ('record_seal', ARRAY['sequence'], '{}'),
    ('retention', ARRAY['retention_id'], '{}');
CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE ON record_seal
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('sequence');
CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE ON retention
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('retention_id');

-- Every change of limits, trading states, parameters, approvals and access once more, as a chain: each
-- row's hash covers its content and the hash of the row before it, tenant by tenant.
CREATE TABLE audit_event (
    tenant_id       text        NOT NULL REFERENCES tenant,
    sequence        int8        NOT NULL,  -- 1, 2, 3, ... without a gap
    create_time     text        NOT NULL,  -- UTC, to the microsecond; as it was hashed
    table_name      text        NOT NULL,
    row_key         text        NOT NULL,  -- of the row that was added or changed
    document        text        NOT NULL,  -- that row after the change, as JSON; secrets left out
    previous        bytea       NOT NULL,  -- hash of the event before, 32 zeros for the first
    hash            bytea       NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX audit_event_by_row ON audit_event (tenant_id, table_name, row_key, sequence);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The last of each chain, so that one that was cut off is missed.
CREATE TABLE audit_head (
    tenant_id       text        PRIMARY KEY REFERENCES tenant,
    sequence        int8        NOT NULL,
    hash            bytea       NOT NULL
);

-- A text with its length in front, so that no two lists of texts look the same when put together.
CREATE FUNCTION audit_field(content text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(octet_length(convert_to(content, 'UTF8')) || ':' || content, 'UTF8')
$$;

CREATE FUNCTION audit_append(
    tenant text, moment timestamptz, name text, key text, content text
) RETURNS void LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    head audit_head;
    said text := to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    digest bytea;
BEGIN
    INSERT INTO audit_head (tenant_id, sequence, hash)
    VALUES (tenant, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
    SELECT * INTO head FROM audit_head WHERE tenant_id = tenant FOR UPDATE;
    digest := sha256(head.hash || audit_field(tenant) || audit_field((head.sequence + 1)::text)
        || audit_field(said) || audit_field(name) || audit_field(key) || audit_field(content));
    INSERT INTO audit_event (tenant_id, sequence, create_time, table_name, row_key, document,
        previous, hash)
    VALUES (tenant, head.sequence + 1, said, name, key, content, head.hash, digest);
    UPDATE audit_head SET sequence = head.sequence + 1, hash = digest WHERE tenant_id = tenant;
END
$$;

-- The row as it is kept: without the hash of a key, which is no business of who reads audits.
CREATE FUNCTION audit_document(content jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT content - 'hash'
$$;

CREATE FUNCTION audit_key(content jsonb, VARIADIC columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(content ->> name, '/' ORDER BY number)
    FROM unnest(columns) WITH ORDINALITY AS c (name, number)
$$;

-- Runs when the transaction commits: the chain is locked for no longer than that, last of all locks,
-- and whatever writes the row, the service or somebody by hand, there is an event. As the owner: the
-- service itself may not write events.
CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
    content jsonb := audit_document(to_jsonb(NEW));
BEGIN
    PERFORM audit_append(NEW.tenant_id, clock_timestamp(), TG_TABLE_NAME,
        audit_key(content, VARIADIC TG_ARGV), content::text);
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION audit_append FROM PUBLIC;

-- Which tables, and what tells their rows apart within a tenant.
CREATE VIEW audited_table (table_name, key_columns) AS VALUES
    ('limit_set', ARRAY['scope_kind', 'scope_id', 'version']),
    ('trading_state', ARRAY['scope_kind', 'scope_id', 'version']),
    ('parameter_set', ARRAY['portfolio_id', 'strategy_id', 'version']),
    ('approval_policy', ARRAY['version']),
    ('proposal', ARRAY['proposal_id']),
    ('proposal_decision', ARRAY['proposal_id']),
    ('high_water_mark_rebase', ARRAY['portfolio_id', 'version']),
    ('corporate_action', ARRAY['sequence']),
    ('api_key', ARRAY['key_id']),
    ('identity_block', ARRAY['subject']);

DO $$
DECLARE
    item record;
    found record;
BEGIN
    FOR item IN SELECT * FROM audited_table LOOP
        EXECUTE format(
            'CREATE CONSTRAINT TRIGGER audit AFTER INSERT OR UPDATE ON %I '
            'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change(%s)',
            item.table_name,
            (SELECT string_agg(quote_literal(name), ', ') FROM unnest(item.key_columns) AS name));
        -- What is there already begins the chain.
        FOR found IN EXECUTE format(
            'SELECT tenant_id, audit_document(to_jsonb(t)) AS content FROM %I AS t '
            'ORDER BY create_time', item.table_name)
        LOOP
            PERFORM audit_append(found.tenant_id, clock_timestamp(), item.table_name,
                audit_key(found.content, VARIADIC item.key_columns), found.content::text);
        END LOOP;
    END LOOP;
END
$$;

-- The audited rows of the session's tenant as they are now, by table and key, to be compared with the
-- chain. As the owner, since the service may not read keys.
CREATE FUNCTION audited_rows()
RETURNS TABLE (table_name text, row_key text, content jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
    item record;
    tenant text := current_setting('sizing.tenant_id', true);
BEGIN
    FOR item IN SELECT * FROM audited_table LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, audit_key(c, VARIADIC %L::text[]), c FROM '
            '(SELECT audit_document(to_jsonb(t)) AS c FROM %I AS t WHERE tenant_id = $1) AS r',
            item.table_name, item.key_columns, item.table_name) USING tenant;
    END LOOP;
END
$$;

-- Who may do what with which rows, said in one place. Run after the steps of the schema and `roles.sql`,
-- and at any start at which a role or its rights are missing; doing it again changes nothing. What it may
-- not do, because its user may not make roles, it leaves.

-- Every table with a tenant: its rows are seen and written by sessions of that tenant only. The owner
-- of the tables is not bound by it, so that a step of the schema can change rows of all tenants.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
            AND a.attname = 'tenant_id' AND NOT a.attisdropped AND NOT c.relrowsecurity
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY of_tenant ON %I USING (tenant_id = current_setting(%L, true))',
            name, 'sizing.tenant_id');
    END LOOP;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    IF (SELECT count(*) < 2 FROM pg_roles
        WHERE rolname IN ('sizing_tenant', 'sizing_all_tenants')) THEN
        RETURN;
    END IF;

    -- Rows are read and added; changed and removed where that is named, and nowhere else.
    FOR name IN
        SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
            AND a.attname = 'tenant_id' AND NOT a.attisdropped
            AND c.relname NOT IN ('api_key', 'identity_block', 'audit_event', 'audit_head', 'quota_use',
                'archived_record', 'retention')
    LOOP
        EXECUTE format('GRANT SELECT, INSERT ON %I TO sizing_tenant', name);
    END LOOP;
    GRANT SELECT ON audit_event, audit_head TO sizing_tenant;  -- the owner's triggers write them
    GRANT SELECT ON archived_record, retention TO sizing_tenant;  -- `sizing retention`, as the owner
    GRANT SELECT ON alembic_version TO sizing_tenant;
    GRANT UPDATE ON tenant, tenant_stream, portfolio_group, portfolio, holding, reservation,
        high_water_mark, trading_day, volatility_state, matrix_refresh, webhook, webhook_delivery,
        model_schedule, job, effective_parameters, effective_parameters_look, edge_evidence,
        edge_evidence_look, usage_hour TO sizing_tenant;
    GRANT DELETE ON holding, limit_breach, price_jump, matrix_refresh, webhook, model_schedule,
        tenant_change TO sizing_tenant;

    -- For all tenants at once: publishing, forgetting, and looking for what is due and who is let in.
    GRANT SELECT, DELETE ON outbox, inbox TO sizing_all_tenants;
    GRANT SELECT, INSERT, UPDATE ON outbox_batch TO sizing_all_tenants;
    GRANT SELECT, INSERT, UPDATE, DELETE ON quota_use TO sizing_all_tenants;
    GRANT SELECT ON tenant, api_key, identity_block TO sizing_all_tenants;
    GRANT SELECT (tenant_id, state, expire_time) ON reservation TO sizing_all_tenants;
    GRANT SELECT (tenant_id, universe_id, history_parts) ON matrix_refresh TO sizing_all_tenants;
    GRANT SELECT (tenant_id, universe_id) ON history_part TO sizing_all_tenants;
    GRANT SELECT (tenant_id, universe_id, train_time, scored_parts, claim_time) ON model_schedule
        TO sizing_all_tenants;
    GRANT SELECT (tenant_id, job_id, state, create_time, end_time, claim_time), DELETE ON job
        TO sizing_all_tenants;
    GRANT SELECT (tenant_id, webhook_id, disable_time) ON webhook TO sizing_all_tenants;
    GRANT SELECT (tenant_id, webhook_id, event_id, position, state) ON webhook_delivery
        TO sizing_all_tenants;
    GRANT SELECT (tenant_id, event_id, create_time), DELETE ON webhook_event TO sizing_all_tenants;
    GRANT SELECT (tenant_id, hour), DELETE ON usage_hour TO sizing_all_tenants;
    FOREACH name IN ARRAY ARRAY['outbox', 'inbox', 'quota_use', 'tenant', 'api_key', 'identity_block',
        'reservation', 'matrix_refresh', 'history_part', 'model_schedule', 'webhook', 'webhook_delivery',
        'webhook_event', 'job', 'usage_hour']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema()
            AND tablename = name AND policyname = 'of_all_tenants') THEN
            EXECUTE format(
                'CREATE POLICY of_all_tenants ON %I TO sizing_all_tenants USING (true)', name);
        END IF;
    END LOOP;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'rights: %', SQLERRM;
END
$$;

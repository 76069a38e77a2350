-- The universe a snapshot is of, and the one whose newest snapshot a portfolio is priced at. Empty: the one
-- without a name, which all that is there already is of. Ids of snapshots stay unique within a tenant.
ALTER TABLE market_snapshot ADD COLUMN universe_id text NOT NULL DEFAULT '';
ALTER TABLE portfolio ADD COLUMN universe_id text NOT NULL DEFAULT '';

-- The newest of a universe, and of each: one look each.
CREATE INDEX market_snapshot_latest_of_universe
    ON market_snapshot (tenant_id, universe_id, as_of_time DESC, sequence DESC);

-- Each time that a portfolio's universe was set.
CREATE TABLE portfolio_universe (
    tenant_id       text        NOT NULL,
    portfolio_id    text        NOT NULL,
    version         int8        NOT NULL,
    universe_id     text        NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, version),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON portfolio_universe
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

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
    ('retention', ARRAY['retention_id'], '{}'),
    ('portfolio_universe', ARRAY['portfolio_id', 'version'], '{}');
CREATE CONSTRAINT TRIGGER audit AFTER INSERT ON portfolio_universe
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_change('portfolio_id', 'version');

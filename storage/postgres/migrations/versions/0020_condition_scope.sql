-- Conditions of one portfolio, strategy or instrument beside those of the firm.

ALTER TABLE condition_observation
    ADD COLUMN scope_kind text NOT NULL DEFAULT ''
        CHECK (scope_kind IN ('', 'PORTFOLIO', 'STRATEGY', 'INSTRUMENT')),
    ADD COLUMN scope_id text NOT NULL DEFAULT '';

ALTER TABLE condition_observation
    ADD CHECK ((scope_kind = '') = (scope_id = '')),
    DROP CONSTRAINT condition_observation_pkey,
    ADD PRIMARY KEY (tenant_id, condition_id, scope_kind, scope_id, as_of_time);

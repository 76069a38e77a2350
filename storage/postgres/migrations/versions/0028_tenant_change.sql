-- What the last changes of a tenant's version were about, one row a version. A version without a row
-- is of a change that may concern everybody: one that an older release made, or that was long ago.
CREATE TABLE tenant_change (
    tenant_id  text NOT NULL REFERENCES tenant,
    version    int8 NOT NULL,  -- of the tenant, after the change
    kind       text NOT NULL,  -- of the subject: TENANT, STRATEGY, CONDITION and so on
    id         text NOT NULL,  -- of the subject, empty for the tenant itself
    PRIMARY KEY (tenant_id, version)
);

-- Lines that callers have asked for, all servers together, so that a quota is one of all of them. Servers
-- add to it about once a second. It may be lost: then each server counts by itself for a moment.
CREATE UNLOGGED TABLE quota_use (
    tenant_id       text        NOT NULL REFERENCES tenant,
    subject         text        NOT NULL,
    lines           int8        NOT NULL,
    update_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, subject)
) WITH (fillfactor = 50);

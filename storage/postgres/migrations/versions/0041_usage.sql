-- What callers have asked for, all servers together, so that it can be charged or capped. Servers add to it
-- every ten seconds.
CREATE TABLE usage_hour (
    tenant_id       text        NOT NULL REFERENCES tenant,
    hour            timestamptz NOT NULL CHECK (date_trunc('hour', hour, 'UTC') = hour),
    subject         text        NOT NULL,
    method          text        NOT NULL,
    call_count      int8        NOT NULL,
    refused_count   int8        NOT NULL,
    line_count      int8        NOT NULL,
    busy_seconds    float8      NOT NULL,
    PRIMARY KEY (tenant_id, hour, subject, method)
) WITH (fillfactor = 50);

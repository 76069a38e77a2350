-- Where events are posted to over HTTP, and what has become of each.
CREATE TABLE webhook (
    tenant_id        text        NOT NULL REFERENCES tenant,
    webhook_id       text        NOT NULL CHECK (webhook_id <> ''),
    url              text        NOT NULL,
    topics           text[]      NOT NULL,
    attempts_max     int4        NOT NULL CHECK (attempts_max > 0),
    secret           bytea       NOT NULL,
    secret_before    bytea,       -- signs as well until then
    overlap_until    timestamptz,
    disable_time     timestamptz, -- NULL: enabled
    disable_reason   text        NOT NULL DEFAULT '',
    author           text        NOT NULL,
    create_time      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, webhook_id)
);

-- Events that a webhook asks for, kept beside the outbox: there they go when the broker has them.
CREATE TABLE webhook_event (
    tenant_id           text        NOT NULL REFERENCES tenant,
    event_id            uuid        NOT NULL,
    position            int8        NOT NULL,  -- of the outbox: orders the events of one portfolio
    topic               text        NOT NULL,
    portfolio_id        text        NOT NULL,
    portfolio_sequence  int8        NOT NULL,
    type                text        NOT NULL,
    schema_version      int4        NOT NULL,
    payload             bytea       NOT NULL,
    trace_id            text        NOT NULL,
    create_time         timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
ALTER TABLE webhook_event ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX webhook_event_by_time ON webhook_event (create_time);

CREATE TABLE webhook_delivery (
    tenant_id        text        NOT NULL,
    webhook_id       text        NOT NULL,
    event_id         uuid        NOT NULL,
    position         int8        NOT NULL,  -- as of the event
    portfolio_id     text        NOT NULL,  -- as of the event
    state            text        NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DELIVERED')),
    attempts         int4        NOT NULL DEFAULT 0,
    last_status      int4        NOT NULL DEFAULT 0,
    last_error       text        NOT NULL DEFAULT '',
    attempt_time     timestamptz,
    retry_time       timestamptz,
    PRIMARY KEY (tenant_id, webhook_id, event_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, event_id) REFERENCES webhook_event ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX webhook_delivery_pending ON webhook_delivery (tenant_id, webhook_id, position)
    WHERE state = 'PENDING';
CREATE INDEX webhook_delivery_failed ON webhook_delivery (tenant_id, webhook_id)
    WHERE state = 'PENDING' AND attempts > 0;
CREATE INDEX webhook_delivery_by_position ON webhook_delivery (tenant_id, webhook_id, position);
CREATE INDEX webhook_delivery_by_event ON webhook_delivery (tenant_id, event_id);

-- Queues events for the webhooks that ask for them, in the transaction that makes them true.
CREATE FUNCTION queue_for_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhook WHERE disable_time IS NULL) THEN
        RETURN NULL;
    END IF;
    WITH wanted AS (
        SELECT w.webhook_id, e.* FROM written AS e
        JOIN webhook AS w ON w.tenant_id = e.tenant_id AND e.topic = ANY (w.topics)
            AND w.disable_time IS NULL
    ), kept AS (
        INSERT INTO webhook_event (tenant_id, event_id, position, topic, portfolio_id,
            portfolio_sequence, type, schema_version, payload, trace_id, create_time)
        SELECT DISTINCT ON (tenant_id, event_id) tenant_id, event_id, position, topic, portfolio_id,
            portfolio_sequence, type, schema_version, payload, trace_id, create_time
        FROM wanted
    )
    INSERT INTO webhook_delivery (tenant_id, webhook_id, event_id, position, portfolio_id)
    SELECT tenant_id, webhook_id, event_id, position, portfolio_id FROM wanted;
    RETURN NULL;
END
$$;
CREATE TRIGGER queue_for_webhooks AFTER INSERT ON outbox REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION queue_for_webhooks();

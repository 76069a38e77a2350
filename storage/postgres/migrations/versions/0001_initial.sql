-- Conventions. Every row belongs to a tenant, and every primary key begins with it. Times are
-- timestamptz in UTC. Prices, weights and money are float8, as they are computed. Quantities held
-- are numeric, because fills add up for years and 0.1 + 0.2 has to be 0.3. A `version` counts the
-- changes of a row and is what a write compares with the state it was computed from.

CREATE TABLE tenant (
    tenant_id       text        PRIMARY KEY CHECK (tenant_id <> ''),
    display_name    text        NOT NULL,
    -- Changes with the trading state and the limits of the tenant or of any of its strategies.
    version         int8        NOT NULL DEFAULT 1,
    create_time     timestamptz NOT NULL DEFAULT now()
);

-- Number of the last event of the tenant's own stream (portfolio_id '' in the outbox). A row of its
-- own, because decisions lock the tenant's row in share mode and so could not write to it.
CREATE TABLE tenant_stream (
    tenant_id       text        PRIMARY KEY REFERENCES tenant,
    event_sequence  int8        NOT NULL DEFAULT 0
);

-- A firm (or a desk) whose limits its member portfolios share.
CREATE TABLE portfolio_group (
    tenant_id       text        NOT NULL REFERENCES tenant,
    group_id        text        NOT NULL CHECK (group_id <> ''),
    display_name    text        NOT NULL,
    -- Changes with every decision of a member, when the state of a member is replaced or a member
    -- comes or goes, and with the group's limits and trading state.
    version         int8        NOT NULL DEFAULT 1,
    create_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, group_id)
);

CREATE TABLE portfolio (
    tenant_id       text        NOT NULL REFERENCES tenant,
    portfolio_id    text        NOT NULL CHECK (portfolio_id <> ''),
    group_id        text,
    display_name    text        NOT NULL,
    base_currency   text        NOT NULL,
    cash            float8      NOT NULL,  -- in base_currency, negative when borrowed
    -- Changes with every decision, fill and expiry, and with its limits and trading state.
    version         int8        NOT NULL DEFAULT 1,
    event_sequence  int8        NOT NULL DEFAULT 0,  -- number of the portfolio's last event
    as_of_time      timestamptz NOT NULL,  -- when holdings and cash were last known to be right
    create_time     timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, portfolio_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES portfolio_group
) WITH (fillfactor = 70);
CREATE INDEX portfolio_by_group ON portfolio (tenant_id, group_id) WHERE group_id IS NOT NULL;

CREATE TABLE holding (
    tenant_id       text            NOT NULL,
    portfolio_id    text            NOT NULL,
    instrument_id   text            NOT NULL,
    quantity        numeric(38, 12) NOT NULL,  -- units, not lots; negative when short
    average_price   float8          NOT NULL,  -- per unit, in the instrument's currency
    PRIMARY KEY (tenant_id, portfolio_id, instrument_id),
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio ON DELETE CASCADE
) WITH (fillfactor = 80);

-- What may be sized at all. The state of a scope is its row of highest version; none is ACTIVE.
CREATE TABLE trading_state (
    tenant_id       text        NOT NULL REFERENCES tenant,
    scope_kind      text        NOT NULL
        CHECK (scope_kind IN ('TENANT', 'GROUP', 'PORTFOLIO', 'STRATEGY')),
    scope_id        text        NOT NULL CHECK ((scope_id = '') = (scope_kind = 'TENANT')),
    version         int8        NOT NULL,
    state           text        NOT NULL CHECK (state IN ('ACTIVE', 'REDUCING', 'HALTED')),
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, scope_kind, scope_id, version)
);

-- The limits of a scope are its row of highest version; older rows are the history.
CREATE TABLE limit_set (
    tenant_id       text        NOT NULL REFERENCES tenant,
    scope_kind      text        NOT NULL
        CHECK (scope_kind IN ('TENANT', 'GROUP', 'PORTFOLIO', 'STRATEGY')),
    scope_id        text        NOT NULL CHECK ((scope_id = '') = (scope_kind = 'TENANT')),
    version         int8        NOT NULL,
    document        jsonb       NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, scope_kind, scope_id, version)
);

-- Sizing parameters. portfolio_id '' is every portfolio of the tenant, strategy_id '' every strategy.
CREATE TABLE parameter_set (
    tenant_id       text        NOT NULL REFERENCES tenant,
    portfolio_id    text        NOT NULL,
    strategy_id     text        NOT NULL,
    version         int8        NOT NULL,
    effective_time  timestamptz NOT NULL,  -- in force from then on, until a later one is
    document        jsonb       NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, portfolio_id, strategy_id, version)
);
CREATE INDEX parameter_set_by_time
    ON parameter_set (tenant_id, portfolio_id, strategy_id, effective_time DESC, version DESC);

CREATE TABLE market_snapshot (
    tenant_id       text        NOT NULL REFERENCES tenant,
    snapshot_id     text        NOT NULL CHECK (snapshot_id <> ''),
    sequence        int8        GENERATED ALWAYS AS IDENTITY,
    as_of_time      timestamptz NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    n_instruments   int4        NOT NULL,
    instrument_id   text[]      NOT NULL CHECK (cardinality(instrument_id) = n_instruments),
    payload         bytea       NOT NULL,  -- encoded by the caller
    PRIMARY KEY (tenant_id, snapshot_id)
);
CREATE INDEX market_snapshot_latest ON market_snapshot (tenant_id, as_of_time DESC, sequence DESC);

-- A correlation or scenario matrix; the one in use under an id is its row of highest version.
CREATE TABLE market_matrix (
    tenant_id       text        NOT NULL REFERENCES tenant,
    matrix_id       text        NOT NULL CHECK (matrix_id <> ''),
    version         int8        NOT NULL,
    kind            text        NOT NULL,
    as_of_time      timestamptz NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    instrument_id   text[]      NOT NULL,
    payload         bytea       NOT NULL,  -- encoded by the caller
    document        jsonb       NOT NULL,
    PRIMARY KEY (tenant_id, matrix_id, version)
);

-- A request that changed something, and its answer, byte for byte. One request may make several
-- decisions (one a portfolio), which is why this is a table of its own.
CREATE TABLE request (
    tenant_id       text        NOT NULL REFERENCES tenant,
    request_id      uuid        NOT NULL,
    method          text        NOT NULL,
    request_hash    bytea       NOT NULL CHECK (octet_length(request_hash) = 32),
    request         bytea       NOT NULL,
    response        bytea       NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, request_id)
);

ALTER TABLE request
    ALTER request SET STORAGE EXTERNAL, ALTER response SET STORAGE EXTERNAL;

-- One sizing of one portfolio. Lines are columns: element i of every array is line i.
CREATE TABLE decision (
    tenant_id           text        NOT NULL,
    decision_id         uuid        NOT NULL,
    request_id          uuid        NOT NULL,
    kind                text        NOT NULL,
    portfolio_id        text        NOT NULL,
    strategy_id         text        NOT NULL,
    portfolio_sequence  int8        NOT NULL,  -- of the decision's last event
    create_time         timestamptz NOT NULL,
    status              text        NOT NULL,
    inputs              bytea       NOT NULL,  -- all a replay needs, encoded by the caller
    versions            jsonb       NOT NULL,
    instrument_id       text[]      NOT NULL,
    lots                int8[]      NOT NULL,
    weight              float8[]    NOT NULL,
    notional            float8[]    NOT NULL,
    price               float8[]    NOT NULL,
    line_status         int2[]      NOT NULL,
    PRIMARY KEY (tenant_id, decision_id),
    FOREIGN KEY (tenant_id, request_id) REFERENCES request,
    FOREIGN KEY (tenant_id, portfolio_id) REFERENCES portfolio
);
-- Not compressed: squeezing a thousand lines takes the server longer than writing them, while the
-- caller waits, and prices and weights hardly shrink. The same holds for requests and reservations.
ALTER TABLE decision
    ALTER inputs SET STORAGE EXTERNAL, ALTER instrument_id SET STORAGE EXTERNAL,
    ALTER lots SET STORAGE EXTERNAL, ALTER weight SET STORAGE EXTERNAL,
    ALTER notional SET STORAGE EXTERNAL, ALTER price SET STORAGE EXTERNAL,
    ALTER line_status SET STORAGE EXTERNAL;
CREATE INDEX decision_by_request ON decision (tenant_id, request_id);
CREATE INDEX decision_by_time ON decision (tenant_id, create_time DESC, decision_id DESC);
CREATE INDEX decision_by_portfolio
    ON decision (tenant_id, portfolio_id, create_time DESC, decision_id DESC);

CREATE VIEW decision_line AS
SELECT d.tenant_id, d.decision_id, d.portfolio_id, d.strategy_id, d.create_time,
       line.number, line.instrument_id, line.lots, line.weight, line.notional, line.price,
       line.line_status
FROM decision d
CROSS JOIN LATERAL unnest(d.instrument_id, d.lots, d.weight, d.notional, d.price, d.line_status)
    WITH ORDINALITY
    AS line (instrument_id, lots, weight, notional, price, line_status, number);

-- What a decision still holds of cash and limits: trade lots not filled yet, line by line.
CREATE TABLE reservation (
    tenant_id       text        NOT NULL,
    decision_id     uuid        NOT NULL,
    portfolio_id    text        NOT NULL,
    strategy_id     text        NOT NULL,
    state           text        NOT NULL
        CHECK (state IN ('OPEN', 'SETTLED', 'RELEASED', 'EXPIRED')),
    expire_time     timestamptz NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    instrument_id   text[]      NOT NULL,
    trade_lots_open int8[]      NOT NULL,  -- signed: bought above, sold below zero
    lot_size        float8[]    NOT NULL,  -- units a lot
    price           float8[]    NOT NULL,  -- per unit, at the time of the decision
    cash_open       float8[]    NOT NULL,  -- cash still held for the line, in the base currency
    PRIMARY KEY (tenant_id, decision_id),
    FOREIGN KEY (tenant_id, decision_id) REFERENCES decision
);
ALTER TABLE reservation
    ALTER instrument_id SET STORAGE EXTERNAL, ALTER trade_lots_open SET STORAGE EXTERNAL,
    ALTER lot_size SET STORAGE EXTERNAL, ALTER price SET STORAGE EXTERNAL,
    ALTER cash_open SET STORAGE EXTERNAL;
CREATE INDEX reservation_open ON reservation (tenant_id, portfolio_id) WHERE state = 'OPEN';
CREATE INDEX reservation_due ON reservation (expire_time) WHERE state = 'OPEN';

-- One report of fills, or a release of what was not filled, for one decision. `outcome` is the state
-- it left the reservation in.
CREATE TABLE settlement (
    tenant_id       text        NOT NULL,
    settlement_id   uuid        NOT NULL,
    request_id      uuid        NOT NULL,
    decision_id     uuid        NOT NULL,
    portfolio_id    text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome         text        NOT NULL CHECK (outcome IN ('OPEN', 'SETTLED', 'RELEASED', 'EXPIRED')),
    cash_change     float8      NOT NULL,  -- in the base currency, fees included
    instrument_id   text[]      NOT NULL,
    lots            int8[]      NOT NULL,  -- signed
    price           float8[]    NOT NULL,  -- per unit, in the instrument's currency
    PRIMARY KEY (tenant_id, settlement_id),
    UNIQUE (tenant_id, request_id),
    FOREIGN KEY (tenant_id, request_id) REFERENCES request,
    FOREIGN KEY (tenant_id, decision_id) REFERENCES decision
);
CREATE INDEX settlement_by_decision ON settlement (tenant_id, decision_id, create_time);

-- Events committed with what they tell, not yet acknowledged by the broker. A queue, not a ledger:
-- rows go when acknowledged. `position` is taken under the portfolio's row lock and so runs with
-- portfolio_sequence within a portfolio; across portfolios it says nothing about commit order.
CREATE TABLE outbox (
    position            int8        GENERATED ALWAYS AS IDENTITY,
    event_id            uuid        NOT NULL,
    tenant_id           text        NOT NULL,
    topic               text        NOT NULL,
    portfolio_id        text        NOT NULL,  -- '' for events of the tenant as a whole
    portfolio_sequence  int8        NOT NULL,
    type                text        NOT NULL,
    schema_version      int4        NOT NULL,
    payload             bytea       NOT NULL,
    trace_id            text        NOT NULL,
    create_time         timestamptz NOT NULL DEFAULT clock_timestamp(),
    shard               int2        NOT NULL GENERATED ALWAYS AS
        ((hashtextextended(tenant_id || '/' || portfolio_id, 0) & 15)::int2) STORED,
    PRIMARY KEY (tenant_id, event_id),
    UNIQUE (tenant_id, portfolio_id, portfolio_sequence)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_queue ON outbox (shard, position);
CREATE INDEX outbox_age ON outbox (create_time);

-- Events taken in, so that a second delivery does nothing.
CREATE TABLE inbox (
    tenant_id       text        NOT NULL,
    topic           text        NOT NULL,
    event_id        text        NOT NULL,
    receive_time    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, topic, event_id)
);
CREATE INDEX inbox_by_time ON inbox (receive_time);

-- History is written once. The owner of the tables can still drop or rename them: this guards
-- against our own mistakes, not against an administrator.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY
        ARRAY['trading_state', 'limit_set', 'parameter_set', 'request', 'decision', 'settlement']
    LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
END
$$;

-- Wakes caches, in the transaction that writes: a JSON array [tenant, kind, id, version]. Decisions
-- don't notify: every NOTIFY takes one lock for the whole server at commit.
CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    id text;
    version int8;
BEGIN
    IF TG_TABLE_NAME = 'market_snapshot' THEN
        id := NEW.snapshot_id; version := NEW.sequence;
    ELSIF TG_TABLE_NAME = 'market_matrix' THEN
        id := NEW.matrix_id; version := NEW.version;
    ELSIF TG_TABLE_NAME = 'parameter_set' THEN
        id := NEW.portfolio_id || '/' || NEW.strategy_id; version := NEW.version;
    ELSE
        id := NEW.scope_kind || '/' || NEW.scope_id; version := NEW.version;
    END IF;
    PERFORM pg_notify(
        'sizing_changed',
        json_build_array(NEW.tenant_id, TG_TABLE_NAME, id, version)::text
    );
    RETURN NULL;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY
        ARRAY['trading_state', 'limit_set', 'parameter_set', 'market_snapshot', 'market_matrix']
    LOOP
        EXECUTE format(
            'CREATE TRIGGER notify_change AFTER INSERT ON %I '
            'FOR EACH ROW EXECUTE FUNCTION notify_change()', name);
    END LOOP;
END
$$;

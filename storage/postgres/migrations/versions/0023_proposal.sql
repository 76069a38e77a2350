-- Whether a firm asks for a second person where a change allows more: its row of highest version.
CREATE TABLE approval_policy (
    tenant_id           text        NOT NULL REFERENCES tenant,
    version             int8        NOT NULL,
    required            boolean     NOT NULL,
    proposal_hours_max  int4        NOT NULL CHECK (proposal_hours_max > 0),
    author              text        NOT NULL,
    approver            text        NOT NULL,
    reason              text        NOT NULL,
    create_time         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, version)
);

-- A change that waits for a second person: the request, and the version of what it would change.
CREATE TABLE proposal (
    tenant_id       text        NOT NULL REFERENCES tenant,
    proposal_id     uuid        NOT NULL,
    kind            text        NOT NULL,  -- name of the contract's field of `Proposal.change`
    portfolio_id    text        NOT NULL,  -- that it concerns alone; '' for wider scopes
    request         bytea       NOT NULL,
    digest          bytea       NOT NULL CHECK (digest = sha256(request)),
    base_version    int8        NOT NULL,
    loosened        text[]      NOT NULL,
    author          text        NOT NULL,
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expire_time     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, proposal_id),
    UNIQUE (tenant_id, proposal_id, author)
);

-- What became of it, once. Nobody approves what they proposed.
CREATE TABLE proposal_decision (
    tenant_id       text        NOT NULL,
    proposal_id     uuid        NOT NULL,
    proposer        text        NOT NULL,
    approved        boolean     NOT NULL,
    author          text        NOT NULL CHECK (NOT approved OR author <> proposer),
    reason          text        NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, proposal_id),
    FOREIGN KEY (tenant_id, proposal_id, proposer)
        REFERENCES proposal (tenant_id, proposal_id, author)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON approval_policy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON proposal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON proposal_decision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who approved a change; '' where nobody had to.
ALTER TABLE limit_set ADD COLUMN approver text NOT NULL DEFAULT '';
ALTER TABLE trading_state ADD COLUMN approver text NOT NULL DEFAULT '';

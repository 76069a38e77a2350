-- A key is shown once, to whoever makes it; here is its SHA-256. Its secret has 256 random bits, so that
-- a slow hash would add nothing. Revoked and expired keys stay, for histories that name them.
CREATE TABLE api_key (
    tenant_id text NOT NULL REFERENCES tenant,
    key_id text NOT NULL PRIMARY KEY,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    subject text NOT NULL,
    scopes text[] NOT NULL,
    portfolios text[] NOT NULL,
    expire_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    author text NOT NULL,
    revoke_time timestamptz
);

-- Whoever is named here is let in with no credential, however valid.
CREATE TABLE identity_block (
    tenant_id text NOT NULL REFERENCES tenant,
    subject text NOT NULL,
    until timestamptz NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subject)
);

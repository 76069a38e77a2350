-- The roles of `tenancy.py`. Doing it again changes nothing; what the user may not do is left.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['sizing_tenant', 'sizing_all_tenants'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', role);
        END IF;
        -- Who makes a role may hand it on, but not yet take it.
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role);
        END IF;
    END LOOP;
EXCEPTION
    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
        RAISE NOTICE 'roles: %', SQLERRM;  -- another database of the server may make them just now
END
$$;

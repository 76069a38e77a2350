-- A decision with what it reserves (expire_time NULL: nothing) as one row, to be written: one COPY in
-- place of two, which is two round trips less while the portfolio is locked.
CREATE VIEW decision_entry AS
SELECT d.*, r.expire_time, r.instrument_id AS reserved_instrument_id, r.trade_lots_open, r.lot_size,
       r.price AS reserved_price, r.cash_open
FROM decision d LEFT JOIN reservation r USING (tenant_id, decision_id);

CREATE FUNCTION enter_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO decision (tenant_id, decision_id, request_id, kind, portfolio_id, strategy_id,
        portfolio_sequence, create_time, status, inputs, versions, instrument_id, lots, weight,
        notional, price, line_status)
    VALUES (NEW.tenant_id, NEW.decision_id, NEW.request_id, NEW.kind, NEW.portfolio_id,
        NEW.strategy_id, NEW.portfolio_sequence, NEW.create_time, NEW.status, NEW.inputs,
        NEW.versions, NEW.instrument_id, NEW.lots, NEW.weight, NEW.notional, NEW.price,
        NEW.line_status);
    IF NEW.expire_time IS NOT NULL THEN
        INSERT INTO reservation (tenant_id, decision_id, portfolio_id, strategy_id, state,
            expire_time, instrument_id, trade_lots_open, lot_size, price, cash_open)
        VALUES (NEW.tenant_id, NEW.decision_id, NEW.portfolio_id, NEW.strategy_id, 'OPEN',
            NEW.expire_time, NEW.reserved_instrument_id, NEW.trade_lots_open, NEW.lot_size,
            NEW.reserved_price, NEW.cash_open);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER enter INSTEAD OF INSERT ON decision_entry
    FOR EACH ROW EXECUTE FUNCTION enter_decision();

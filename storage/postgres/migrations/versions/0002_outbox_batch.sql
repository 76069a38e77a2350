-- What the relay of a shard is sending, written before it sends. A successor then sends the same
-- events under the same sequence ids, and the broker drops what it has already. It is a hint and no
-- record: losing it means an event may be on a topic twice, never that one is missing.
CREATE TABLE outbox_batch (
    shard           int2        PRIMARY KEY CHECK (shard BETWEEN 0 AND 15),
    position        int8[]      NOT NULL,  -- of outbox; a row gone from there is acknowledged
    sequence_id     int8[]      NOT NULL,  -- rising within each topic
    CHECK (cardinality(position) = cardinality(sequence_id))
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

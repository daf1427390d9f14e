-- A record is written when its Idempotency-Key is claimed, and again when its request is finished.
-- Gateways of several versions share the table, so a migration only adds what older ones can ignore.
CREATE TABLE mesh_gateway_records (
    id          bytea       PRIMARY KEY,
    version     smallint    NOT NULL,
    caller      bytea       NOT NULL,
    group_name  text        NOT NULL,
    method      text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    token       bytea       NOT NULL,
    state       text        NOT NULL,
    created     timestamptz NOT NULL,
    deadline    timestamptz NOT NULL,
    finished    timestamptz,
    sealed      bytea
);

CREATE INDEX mesh_gateway_records_caller ON mesh_gateway_records (caller);
CREATE INDEX mesh_gateway_records_sent ON mesh_gateway_records (created) WHERE state = 'sent';
CREATE INDEX mesh_gateway_records_answers ON mesh_gateway_records (finished) WHERE sealed IS NOT NULL;
CREATE INDEX mesh_gateway_records_finished ON mesh_gateway_records (finished) WHERE finished IS NOT NULL;

-- Tickets live for seconds. A table that is not logged costs less, and a ticket that was taken
-- cannot come back after a crash: the table is empty then.
CREATE UNLOGGED TABLE mesh_gateway_tickets (
    id      bytea       PRIMARY KEY,
    sealed  bytea       NOT NULL,
    expires timestamptz NOT NULL
);

CREATE INDEX mesh_gateway_tickets_expires ON mesh_gateway_tickets (expires);

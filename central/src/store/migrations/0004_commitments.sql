-- Requests for storage commitment that were answered with success and whose report has not been taken yet. `report` is what was
-- decided while the identity of the request held: {"committed": [[class, instance], …], "failed": [[class, instance, reason], …]}.
-- The rows belong to peers, not to patients, and go when the report was taken.
CREATE TABLE commitments (
    id              TEXT NOT NULL PRIMARY KEY,
    peer            TEXT NOT NULL,         -- name of the peer row
    calling_ae      TEXT NOT NULL,
    called_ae       TEXT NOT NULL,
    transaction_uid TEXT NOT NULL,
    digest          TEXT NOT NULL,         -- SHA-256 of the references, hex
    received_at     BIGINT NOT NULL,
    report          TEXT NOT NULL
);
CREATE UNIQUE INDEX commitments_by_transaction ON commitments (peer, transaction_uid);

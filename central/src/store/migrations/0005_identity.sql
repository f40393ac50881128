-- What patient administration tells (06): demographics, merges that can be taken back, links, messages done.

-- A patient that is part of another names the merge; its row stays as it was before.
ALTER TABLE patients ADD COLUMN merged_by TEXT;
-- Patient id as the event was told: `recorded_under`.
ALTER TABLE service_events ADD COLUMN recorded_authority TEXT;
ALTER TABLE service_events ADD COLUMN recorded_id TEXT;

-- What each source tells of a patient; which one is shown is decided by priority and as_of (06 §8).
CREATE TABLE demographics (
    patient_key TEXT NOT NULL REFERENCES patients (patient_key),
    source      TEXT NOT NULL,             -- MSH-3|MSH-4
    as_of       BIGINT NOT NULL,
    body        TEXT NOT NULL,             -- JSON Known
    PRIMARY KEY (patient_key, source)
);

-- Journal of merges, with what was before (06 §7.4). Kept; a merge that was taken back says so.
CREATE TABLE merges (
    merge_id           TEXT NOT NULL PRIMARY KEY,
    number             BIGINT NOT NULL UNIQUE,   -- order
    kind               TEXT NOT NULL,            -- A40 | A18 | A47 | operator
    survivor_key       TEXT NOT NULL REFERENCES patients (patient_key),
    old_key            TEXT NOT NULL REFERENCES patients (patient_key),
    survivor_authority TEXT NOT NULL,
    survivor_id        TEXT NOT NULL,
    old_authority      TEXT NOT NULL,
    old_id             TEXT NOT NULL,
    told_by            TEXT NOT NULL,            -- MSH-3|MSH-4, or the operator
    message            TEXT,                     -- MSH-10
    merged_at          BIGINT NOT NULL,
    store_version      BIGINT NOT NULL,          -- of the declarations, before the merge
    pre_image          TEXT NOT NULL,            -- JSON: both patients, ids of the old one
    split_asked_by     TEXT,                     -- first of two persons
    split_asked_at     BIGINT,
    split_by           TEXT,
    split_at           BIGINT,
    split_reason       TEXT
);
CREATE INDEX merges_by_survivor ON merges (survivor_key, number);
CREATE INDEX merges_by_old ON merges (old_key, number);

-- Two ids of different persons that are linked (A24). The set is all that is reached.
CREATE TABLE patient_links (
    a_authority TEXT NOT NULL,
    a_id        TEXT NOT NULL,
    b_authority TEXT NOT NULL,
    b_id        TEXT NOT NULL,
    linked_at   BIGINT NOT NULL,
    ended_at    BIGINT,
    PRIMARY KEY (a_authority, a_id, b_authority, b_id)
);
CREATE INDEX patient_links_reversed ON patient_links (b_authority, b_id);

-- What a person has to look at.
CREATE TABLE identity_reviews (
    review_id   TEXT NOT NULL PRIMARY KEY,
    patient_key TEXT NOT NULL REFERENCES patients (patient_key),
    merge_id    TEXT,
    reason      TEXT NOT NULL,
    raised_at   BIGINT NOT NULL,
    closed_at   BIGINT,
    closed_by   TEXT
);
CREATE INDEX identity_reviews_by_patient ON identity_reviews (patient_key);

-- Messages done: MSH-3|MSH-4 and MSH-10, with the digest from MSH-8 on (06 §8).
CREATE TABLE feed_messages (
    source      TEXT NOT NULL,
    control_id  TEXT NOT NULL,
    digest      TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (source, control_id)
);
CREATE INDEX feed_messages_by_age ON feed_messages (received_at);

INSERT INTO counters (name, value) VALUES ('merges', 0);

-- The centre's one transactional store: registry, instance index, declarations, identity, idempotency, used assertions,
-- receipts. One schema for SQLite and PostgreSQL: TEXT and BIGINT only; no statement depends on a dialect.
--
-- Instants are milliseconds since 1970 UTC; civil dates are YYYY-MM-DD; registry times are DTM padded to 14 digits;
-- digests and hashes are lower-case hex; a code is `code^^scheme`; booleans are 0 or 1. An absent value is NULL, except
-- where the column takes part in a key (specifier, service_event): there it is ''.
-- No row that belongs to a patient is ever deleted by a program (DECISIONS 19).

-- A person, by the surviving identifier (06 §7.1).
CREATE TABLE patients (
    patient_key TEXT NOT NULL PRIMARY KEY,
    authority   TEXT NOT NULL,
    id          TEXT NOT NULL,
    birth_date  TEXT,
    labels      TEXT NOT NULL,             -- JSON array
    origin      TEXT NOT NULL,             -- registration | feed
    created_at  BIGINT NOT NULL
);

-- Every identifier of every patient, the primary one included: head(id) is one look-up.
CREATE TABLE patient_aliases (
    authority   TEXT NOT NULL,
    id          TEXT NOT NULL,
    patient_key TEXT NOT NULL REFERENCES patients (patient_key),
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (authority, id)
);
CREATE INDEX patient_aliases_by_patient ON patient_aliases (patient_key);

-- Service events known from the patient administration (06 §6).
CREATE TABLE service_events (
    oid         TEXT NOT NULL PRIMARY KEY,
    patient_key TEXT NOT NULL REFERENCES patients (patient_key),
    controller  TEXT NOT NULL,
    unit        TEXT,
    start_date  TEXT,
    end_date    TEXT
);
CREATE INDEX service_events_by_patient ON service_events (patient_key);

-- Document entries (ITI TF-3 §4.2.3.2). `metadata` is the entry as registered; the columns beside it are what queries
-- compare (08 §8), what an access unit is made of (05 §2), and what changes after registration.
CREATE TABLE entries (
    entry_uuid           TEXT NOT NULL PRIMARY KEY,
    logical_id           TEXT NOT NULL,
    version              BIGINT NOT NULL,
    status               TEXT NOT NULL,    -- Approved | Deprecated
    entry_type           TEXT NOT NULL,    -- Stable | OnDemand
    unique_id            TEXT NOT NULL,
    patient_key          TEXT NOT NULL REFERENCES patients (patient_key),
    recorded_authority   TEXT NOT NULL,    -- patient id at registration: `recorded_under`
    recorded_id          TEXT NOT NULL,
    mime_type            TEXT NOT NULL,
    hash                 TEXT,
    size                 BIGINT,
    repository_unique_id TEXT,
    class_code           TEXT,
    type_code            TEXT,
    format_code          TEXT,
    practice_setting     TEXT,
    facility_type        TEXT,
    creation_time        TEXT,
    service_start_time   TEXT,
    service_stop_time    TEXT,
    controller           TEXT NOT NULL,
    register             TEXT NOT NULL,
    specifier            TEXT NOT NULL,
    service_event        TEXT NOT NULL,
    service_unit         TEXT,
    episode              TEXT,
    access_date          TEXT,
    sector               TEXT NOT NULL,    -- health | social | unknown
    access_status        TEXT NOT NULL,    -- active | superseded | invalidated | rejected | erased
    release_date         TEXT,
    minor_code           TEXT,
    labels               TEXT NOT NULL,    -- JSON array
    unreadable           BIGINT NOT NULL,
    submission_uuid      TEXT NOT NULL,
    stored_by            TEXT NOT NULL,    -- organisation of the assertion's issuer
    registered_at        BIGINT NOT NULL,
    metadata             TEXT NOT NULL     -- JSON DocumentEntry
);
CREATE INDEX entries_by_patient ON entries (patient_key, status, registered_at);
CREATE INDEX entries_by_unique_id ON entries (unique_id);
CREATE UNIQUE INDEX entries_by_version ON entries (logical_id, version);

-- eventCodeList and confidentialityCode.
CREATE TABLE entry_codes (
    entry_uuid TEXT NOT NULL REFERENCES entries (entry_uuid),
    list       TEXT NOT NULL,              -- event | confidentiality
    code       TEXT NOT NULL,
    PRIMARY KEY (entry_uuid, list, code)
);

-- referenceIdList, CXi as registered.
CREATE TABLE entry_references (
    entry_uuid TEXT NOT NULL REFERENCES entries (entry_uuid),
    value      TEXT NOT NULL,
    PRIMARY KEY (entry_uuid, value)
);
CREATE INDEX entry_references_by_value ON entry_references (value);

-- authorPerson of entries and submission sets, XCN as registered.
CREATE TABLE object_authors (
    object_uuid TEXT NOT NULL,
    person      TEXT NOT NULL,
    PRIMARY KEY (object_uuid, person)
);

CREATE TABLE submission_sets (
    entry_uuid      TEXT NOT NULL PRIMARY KEY,
    unique_id       TEXT NOT NULL UNIQUE,
    source_id       TEXT NOT NULL,
    patient_key     TEXT NOT NULL REFERENCES patients (patient_key),
    status          TEXT NOT NULL,
    content_type    TEXT,
    submission_time TEXT,
    content_sha256  TEXT NOT NULL,         -- canonical content, 08 §4.7
    controller      TEXT NOT NULL,
    register        TEXT NOT NULL,
    specifier       TEXT NOT NULL,
    stored_by       TEXT NOT NULL,
    registered_at   BIGINT NOT NULL,
    metadata        TEXT NOT NULL
);
CREATE INDEX submission_sets_by_patient ON submission_sets (patient_key, registered_at);

CREATE TABLE folders (
    entry_uuid       TEXT NOT NULL PRIMARY KEY,
    logical_id       TEXT NOT NULL,
    version          BIGINT NOT NULL,
    unique_id        TEXT NOT NULL,
    patient_key      TEXT NOT NULL REFERENCES patients (patient_key),
    status           TEXT NOT NULL,
    last_update_time TEXT NOT NULL,
    controller       TEXT NOT NULL,
    register         TEXT NOT NULL,
    specifier        TEXT NOT NULL,
    submission_uuid  TEXT NOT NULL,
    stored_by        TEXT NOT NULL,
    registered_at    BIGINT NOT NULL,
    metadata         TEXT NOT NULL
);
CREATE INDEX folders_by_patient ON folders (patient_key, registered_at);
CREATE INDEX folders_by_unique_id ON folders (unique_id);
CREATE UNIQUE INDEX folders_by_version ON folders (logical_id, version);

CREATE TABLE folder_codes (
    entry_uuid TEXT NOT NULL REFERENCES folders (entry_uuid),
    code       TEXT NOT NULL,
    PRIMARY KEY (entry_uuid, code)
);

-- An end may be an object of another submission: no foreign key.
CREATE TABLE associations (
    entry_uuid       TEXT NOT NULL PRIMARY KEY,
    association_type TEXT NOT NULL,
    source           TEXT NOT NULL,
    target           TEXT NOT NULL,
    status           TEXT NOT NULL,
    submission_uuid  TEXT NOT NULL,
    registered_at    BIGINT NOT NULL,
    metadata         TEXT NOT NULL
);
CREATE INDEX associations_by_source ON associations (source, association_type);
CREATE INDEX associations_by_target ON associations (target, association_type);

-- Documents of our repository, by uniqueId.
CREATE TABLE documents (
    unique_id  TEXT NOT NULL PRIMARY KEY,
    object_key TEXT NOT NULL UNIQUE,
    sha1       TEXT NOT NULL,
    size       BIGINT NOT NULL,
    mime_type  TEXT NOT NULL,
    stored_by  TEXT NOT NULL,
    stored_at  BIGINT NOT NULL
);

-- Manifests (KOS) and the instances they list.
CREATE TABLE manifests (
    entry_uuid         TEXT NOT NULL PRIMARY KEY REFERENCES entries (entry_uuid),
    document_unique_id TEXT NOT NULL,
    study_uid          TEXT NOT NULL,
    source_id          TEXT NOT NULL
);
CREATE INDEX manifests_by_study ON manifests (study_uid);
CREATE INDEX manifests_by_document ON manifests (document_unique_id);

CREATE TABLE manifest_references (
    entry_uuid       TEXT NOT NULL REFERENCES manifests (entry_uuid),
    sop_instance_uid TEXT NOT NULL,
    series_uid       TEXT NOT NULL,
    sop_class_uid    TEXT NOT NULL,
    PRIMARY KEY (entry_uuid, sop_instance_uid)
);
CREATE INDEX manifest_references_by_instance ON manifest_references (sop_instance_uid);

-- Access units of stored instances (05 §1): a study under one patient id, controller, register, specifier, service event.
CREATE TABLE imaging_units (
    unit_id            TEXT NOT NULL PRIMARY KEY,
    study_uid          TEXT NOT NULL,
    patient_key        TEXT NOT NULL REFERENCES patients (patient_key),
    recorded_authority TEXT NOT NULL,
    recorded_id        TEXT NOT NULL,
    controller         TEXT NOT NULL,
    register           TEXT NOT NULL,
    specifier          TEXT NOT NULL,
    service_event      TEXT NOT NULL,
    study_date         TEXT,
    UNIQUE (study_uid, recorded_authority, recorded_id, controller, register, specifier, service_event)
);
CREATE INDEX imaging_units_by_patient ON imaging_units (patient_key);

-- Stored instances: one row per SOP Instance UID; the first arrival is kept.
CREATE TABLE instances (
    sop_instance_uid    TEXT NOT NULL PRIMARY KEY,
    study_uid           TEXT NOT NULL,
    series_uid          TEXT NOT NULL,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    digest              TEXT NOT NULL,     -- 01 §3.1
    size_bytes          BIGINT NOT NULL,   -- data set
    object_key          TEXT NOT NULL UNIQUE,
    object_size         BIGINT NOT NULL,   -- Part 10 file
    data_set_offset     BIGINT NOT NULL,   -- where the data set begins in it
    unit_id             TEXT NOT NULL REFERENCES imaging_units (unit_id),
    rejected_title      TEXT,              -- document title of the applied rejection note: 113001, 113037 …
    stored_by           TEXT NOT NULL,     -- organisation of the assertion's issuer
    stored_at           BIGINT NOT NULL
);
CREATE INDEX instances_by_study ON instances (study_uid, series_uid);
CREATE INDEX instances_by_series ON instances (series_uid);

-- Custody receipts of this store's holders (11 §2). The order of ids is the order of the chain.
CREATE TABLE receipts (
    id               TEXT NOT NULL PRIMARY KEY,
    holder           TEXT NOT NULL,
    kind             TEXT NOT NULL,        -- R3 | R4 | recovery | key
    hash             TEXT NOT NULL UNIQUE,
    log_prev         TEXT NOT NULL,        -- '' for the first of a holder; a chain cannot fork
    study_uid        TEXT,
    sop_instance_uid TEXT,
    document_uid     TEXT,
    entry_uuid       TEXT,                 -- entry that an R4 is about: whose it is to read
    carried          TEXT NOT NULL
);
CREATE UNIQUE INDEX receipts_by_holder ON receipts (holder, id);
CREATE UNIQUE INDEX receipts_by_predecessor ON receipts (holder, log_prev);
CREATE INDEX receipts_by_study ON receipts (study_uid);
CREATE INDEX receipts_by_instance ON receipts (sop_instance_uid);
CREATE INDEX receipts_by_entry ON receipts (entry_uuid);

-- Declarations: append-only versions; the row with the greatest store_version of a declaration_id is in force.
CREATE TABLE declarations (
    store_version  BIGINT NOT NULL PRIMARY KEY,
    declaration_id TEXT NOT NULL,
    patient_key    TEXT REFERENCES patients (patient_key), -- NULL: population authorisation
    recorded_authority TEXT,
    recorded_id    TEXT,
    kind           TEXT NOT NULL,          -- informing | consent | denial | authorisation
    status         TEXT NOT NULL,          -- of the kind
    body           TEXT NOT NULL,          -- JSON, what decisions read
    detail         TEXT NOT NULL,          -- JSON, who decided and who recorded
    recorded_at    BIGINT NOT NULL
);
CREATE INDEX declarations_by_patient ON declarations (patient_key);
CREATE INDEX declarations_by_id ON declarations (declaration_id, store_version);

-- wsa:MessageID as idempotency key (08 §4).
CREATE TABLE idempotency (
    organisation TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    state        TEXT NOT NULL,            -- in_progress | done
    lease_token  TEXT NOT NULL,
    lease_until  BIGINT NOT NULL,
    answer       TEXT,
    committed_at BIGINT,
    PRIMARY KEY (organisation, message_id)
);
CREATE INDEX idempotency_by_age ON idempotency (committed_at);

-- Replay store (04 §8): key = SHA-256(Issuer, 00H, ID).
CREATE TABLE used_assertions (
    assertion_key      TEXT NOT NULL PRIMARY KEY,
    certificate_sha256 TEXT NOT NULL,
    keep_until         BIGINT NOT NULL
);
CREATE INDEX used_assertions_by_age ON used_assertions (keep_until);

-- store_version (05 §2) and the size of the replay store.
CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('store_version', 0), ('used_assertions', 0);

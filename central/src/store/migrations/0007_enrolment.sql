-- Invites to enrol a site (profile 10 §6.1). Of a token only its SHA-256 is kept. `record` is the binding, who made it and who approved it.
CREATE TABLE enrolment_invites (
    token_sha256 TEXT NOT NULL PRIMARY KEY, -- hex
    state        TEXT NOT NULL,             -- waiting (for approval), open, used, burned
    failures     BIGINT NOT NULL,           -- tries that were refused
    expires_at   BIGINT NOT NULL,
    record       TEXT NOT NULL
);

-- Sites that have joined, one row for each join (§6.2). `record` is everything about it: binding, certificates, receipt keys, the answer
-- that is repeated when it was lost. The rows belong to organisations, not to patients.
CREATE TABLE enrolled_sites (
    token_sha256 TEXT NOT NULL PRIMARY KEY, -- of its invite, hex
    site         TEXT NOT NULL,
    state        TEXT NOT NULL,             -- pending (not confirmed), active, disabled, revoked, replaced
    changed_at   BIGINT NOT NULL,
    record       TEXT NOT NULL
);
CREATE INDEX enrolled_sites_by_site ON enrolled_sites (site);

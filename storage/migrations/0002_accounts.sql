-- SPDX-License-Identifier: Apache-2.0
-- Accounts, devices, tokens, profiles, interactive authentication and reports.
-- Times are milliseconds since 1970; a NULL expiry means never; flags are 0 or 1; tokens are kept as their SHA-256.

CREATE TABLE account (
    usr {pk},
    created {bigint} NOT NULL,
    kind {small} NOT NULL,             -- 0 person, 1 guest, 2 made by an application service
    admin {small} NOT NULL,
    locked {small} NOT NULL,
    suspended {small} NOT NULL,
    deactivated {small} NOT NULL,
    erased {small} NOT NULL,
    leaving {small} NOT NULL,        -- deactivated, and maybe still in rooms
    password {blob},                 -- argon2id or bcrypt string; NULL: no password login
    appservice {blob}                -- id of the application service that made it
);
CREATE INDEX account_leaving ON account (usr) WHERE leaving = 1;

-- Device numbers are never used twice, because transaction ids are kept by device number.
CREATE TABLE device_number (one {pk}, next {int} NOT NULL);
INSERT INTO device_number (one, next) VALUES (1, 1);

CREATE TABLE device (
    nid {pk},
    usr {int} NOT NULL,
    id {blob} NOT NULL,
    name {blob},
    created {bigint} NOT NULL,
    seen_ts {bigint},
    seen_ip {blob},
    seen_agent {blob},
    UNIQUE (usr, id)
);

CREATE TABLE access_token (
    nid {bigpk},
    hash {blob} NOT NULL UNIQUE,
    usr {int} NOT NULL,
    device {int} NOT NULL,           -- 0: none
    created {bigint} NOT NULL,
    expires {bigint},
    refresh {bigint}                 -- the refresh token issued with it
);
CREATE INDEX access_token_usr ON access_token (usr, device);
CREATE INDEX access_token_refresh ON access_token (refresh);

CREATE TABLE refresh_token (
    nid {bigpk},
    hash {blob} NOT NULL UNIQUE,
    usr {int} NOT NULL,
    device {int} NOT NULL,
    created {bigint} NOT NULL,
    expires {bigint},
    parent {bigint}                  -- the token it was exchanged for, until it or its access token is first used
);
CREATE INDEX refresh_token_usr ON refresh_token (usr, device);
CREATE INDEX refresh_token_parent ON refresh_token (parent);

CREATE TABLE login_token (
    hash {blob} PRIMARY KEY,
    usr {int} NOT NULL,
    expires {bigint} NOT NULL
);
CREATE INDEX login_token_usr ON login_token (usr);

CREATE TABLE openid_token (
    hash {blob} PRIMARY KEY,
    usr {int} NOT NULL,
    expires {bigint} NOT NULL
);
CREATE INDEX openid_token_usr ON openid_token (usr);

CREATE TABLE registration_token (
    token {blob} PRIMARY KEY,
    created {bigint} NOT NULL,
    uses_allowed {int},              -- NULL: any number
    completed {int} NOT NULL,
    expires {bigint}
);

CREATE TABLE setup_token (
    hash {blob} PRIMARY KEY,
    expires {bigint} NOT NULL
);

CREATE TABLE uia_session (
    id {blob} PRIMARY KEY,
    operation {blob} NOT NULL,       -- method, path and what else the caller bound it to
    usr {int} NOT NULL,              -- 0: nobody is signed in
    created {bigint} NOT NULL,
    completed {blob} NOT NULL,       -- JSON object: stage -> what it proved
    params {blob} NOT NULL           -- JSON object
);
CREATE INDEX uia_session_created ON uia_session (created);

CREATE TABLE threepid (
    medium {blob} NOT NULL,
    address {blob} NOT NULL,
    usr {int} NOT NULL,
    validated {bigint} NOT NULL,
    added {bigint} NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX threepid_usr ON threepid (usr);

-- A proof that an address is somebody's: the mail holds the token, the client the secret.
CREATE TABLE validation (
    sid {blob} PRIMARY KEY,
    secret {blob} NOT NULL,
    purpose {small} NOT NULL,        -- 1 register, 2 add to an account, 3 reset a password
    medium {blob} NOT NULL,
    address {blob} NOT NULL,
    token {blob} NOT NULL,           -- SHA-256
    attempt {bigint} NOT NULL,
    created {bigint} NOT NULL,
    validated {bigint},
    next_link {blob},
    UNIQUE (secret, purpose, medium, address)
);
CREATE INDEX validation_created ON validation (created);

CREATE TABLE profile_field (
    usr {int} NOT NULL,
    name {blob} NOT NULL,
    value {blob} NOT NULL,           -- JSON
    pos {bigint} NOT NULL,
    PRIMARY KEY (usr, name)
);

CREATE TABLE report (
    nid {bigpk},
    reporter {int} NOT NULL,
    kind {small} NOT NULL,             -- 0 event, 1 room, 2 user
    room {blob},
    event {blob},
    target {blob},
    reason {blob} NOT NULL,
    score {int},
    created {bigint} NOT NULL,
    state {small} NOT NULL             -- 0 open, 1 resolved, 2 dismissed
);
CREATE INDEX report_state ON report (state, nid);

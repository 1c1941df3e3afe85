-- SPDX-License-Identifier: Apache-2.0
-- End-to-end encryption: what devices publish, what they send each other, and what they back up. Everything that a
-- client chose is opaque bytes. Devices and users are numbers; positions are those of the one clock.

CREATE TABLE device_key (
    device {int} NOT NULL PRIMARY KEY,
    usr {int} NOT NULL,
    pos {bigint} NOT NULL,
    keys {blob} NOT NULL             -- the signed object as uploaded, without unsigned
){compact};
CREATE INDEX device_key_usr ON device_key (usr);

-- Handed out by pos, which is the order of upload, and deleted in the transaction that hands it out.
CREATE TABLE one_time_key (
    device {int} NOT NULL,
    algorithm {blob} NOT NULL,
    pos {bigint} NOT NULL,
    id {blob} NOT NULL,
    key {blob} NOT NULL,             -- JSON
    PRIMARY KEY (device, algorithm, pos, id)
){compact};
CREATE UNIQUE INDEX one_time_key_id ON one_time_key (device, algorithm, id);

-- What was handed out once: uploading it again, after a lost answer, must not bring it back.
CREATE TABLE spent_key (
    device {int} NOT NULL,
    digest {blob} NOT NULL,          -- 16 bytes of the SHA-256 of algorithm, id and key
    PRIMARY KEY (device, digest)
){compact};

CREATE TABLE fallback_key (
    device {int} NOT NULL,
    algorithm {blob} NOT NULL,
    id {blob} NOT NULL,
    key {blob} NOT NULL,             -- JSON
    used {small} NOT NULL,
    PRIMARY KEY (device, algorithm)
){compact};

-- usage: 1 master, 2 self_signing, 3 user_signing.
CREATE TABLE cross_signing_key (
    usr {int} NOT NULL,
    usage {small} NOT NULL,
    pos {bigint} NOT NULL,
    public {blob} NOT NULL,          -- unpadded base64
    keys {blob} NOT NULL,            -- the object as uploaded
    PRIMARY KEY (usr, usage)
){compact};

-- Signatures that came after the object they are on. target: a device id or a public key of target_usr.
CREATE TABLE key_signature (
    target_usr {int} NOT NULL,
    target {blob} NOT NULL,
    signer {int} NOT NULL,
    key_id {blob} NOT NULL,          -- ed25519:...
    signature {blob} NOT NULL,
    PRIMARY KEY (target_usr, target, signer, key_id)
){compact};
CREATE INDEX key_signature_signer ON key_signature (signer);

-- One row per change of a user's devices or cross-signing keys. viewer 0: whoever shares a room with the user may know;
-- otherwise only that user (their own signature on somebody's key).
CREATE TABLE device_list_change (
    pos {bigint} NOT NULL,
    usr {int} NOT NULL,
    viewer {int} NOT NULL,
    PRIMARY KEY (pos, usr, viewer)
){compact};
CREATE INDEX device_list_change_usr ON device_list_change (usr, pos);

-- When somebody began (joined 1) or ceased (0) to be joined to a room: from these rows follows who shared a room at any
-- position, and so whose devices a client must begin or cease to track.
CREATE TABLE join_change (
    pos {bigint} NOT NULL,
    usr {int} NOT NULL,
    room {int} NOT NULL,
    joined {small} NOT NULL,
    PRIMARY KEY (pos, usr, room)
){compact};
CREATE INDEX join_change_room ON join_change (room, pos);
CREATE INDEX join_change_usr ON join_change (usr, pos);

CREATE TABLE to_device_message (
    device {int} NOT NULL,
    pos {bigint} NOT NULL,
    n {int} NOT NULL,                -- which message of that position
    message {blob} NOT NULL,         -- {"content", "sender", "type"} as JSON
    PRIMARY KEY (device, pos, n)
){compact};

CREATE TABLE to_device_txn (
    device {int} NOT NULL,
    scope {blob} NOT NULL,           -- digest of what the transaction id is scoped to besides the device, and of the id
    ts {bigint} NOT NULL,
    PRIMARY KEY (device, scope)
){compact};
CREATE INDEX to_device_txn_ts ON to_device_txn (ts);

-- A deleted version keeps its row, so that its number is never given again.
CREATE TABLE backup_version (
    usr {int} NOT NULL,
    version {int} NOT NULL,
    algorithm {blob} NOT NULL,
    auth_data {blob} NOT NULL,       -- JSON
    etag {bigint} NOT NULL,
    count {bigint} NOT NULL,
    deleted {small} NOT NULL,
    PRIMARY KEY (usr, version)
){compact};

CREATE TABLE backup_key (
    usr {int} NOT NULL,
    version {int} NOT NULL,
    room {blob} NOT NULL,
    session {blob} NOT NULL,
    first_index {bigint} NOT NULL,
    forwarded {bigint} NOT NULL,
    verified {small} NOT NULL,
    data {blob} NOT NULL,            -- session_data, JSON
    PRIMARY KEY (usr, version, room, session)
){compact};

CREATE TABLE dehydrated_device (
    usr {int} NOT NULL PRIMARY KEY,
    device {int} NOT NULL,
    data {blob} NOT NULL             -- device_data, JSON
){compact};

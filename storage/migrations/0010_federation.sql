-- SPDX-License-Identifier: Apache-2.0
-- What this server knows of others, and what it has still to tell them.

-- Public keys of other servers. An old key is one whose validity lies in the past.
CREATE TABLE server_key (
    server {blob} NOT NULL,
    key_id {blob} NOT NULL,
    public {blob} NOT NULL,
    valid_until {bigint} NOT NULL,   -- as the server says, ms
    fetched {bigint} NOT NULL,
    PRIMARY KEY (server, key_id)
) {compact};

-- Answers to transactions, so that one that comes twice is answered alike.
CREATE TABLE federation_answer (
    server {blob} NOT NULL,
    txn {blob} NOT NULL,
    at {bigint} NOT NULL,
    answer {blob} NOT NULL,          -- JSON
    PRIMARY KEY (server, txn)
) {compact};
CREATE INDEX federation_answer_at ON federation_answer (at);

-- Up to where everything has been handed to the queues of the destinations in memory.
CREATE TABLE federation_cursor (one {small} PRIMARY KEY, position {bigint} NOT NULL) {hot};

-- Servers that have not got everything up to there: what they have, and when to try again.
CREATE TABLE destination (
    server {blob} PRIMARY KEY,
    position {bigint} NOT NULL,
    failing_since {bigint} NOT NULL, -- ms; 0: not failing
    retry_at {bigint} NOT NULL,
    interval_ms {bigint} NOT NULL
) {hot};

-- Events of other servers' users that this server passes on: joins, knocks and leaves that came in by a handshake.
CREATE TABLE relayed_event (pos {bigpk}, event {bigint} NOT NULL);

-- EDUs that must not get lost (messages to devices), in their order.
CREATE TABLE edu_outbox (
    server {blob} NOT NULL,
    pos {bigint} NOT NULL,
    n {int} NOT NULL,
    kind {blob} NOT NULL,
    content {blob} NOT NULL,
    PRIMARY KEY (server, pos, n)
) {compact};

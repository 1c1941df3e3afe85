-- SPDX-License-Identifier: Apache-2.0
-- Tokens in braces and the --@ lines are explained in storage/dialect.py. All strings that users or other servers choose are blobs.

-- The one clock: the position of the last committed change.
CREATE TABLE clock (one {small} PRIMARY KEY, position {bigint} NOT NULL) {hot};
INSERT INTO clock (one, position) VALUES (1, 0);

CREATE TABLE usr (nid {pk}, id {blob} UNIQUE NOT NULL, local {small} NOT NULL);
CREATE TABLE etype (nid {pk}, name {blob} UNIQUE NOT NULL);
CREATE TABLE skey (nid {pk}, etype {int} NOT NULL, key {blob} NOT NULL, UNIQUE (etype, key));

CREATE TABLE room (
    nid {pk},
    id {blob} UNIQUE NOT NULL,
    version {text} NOT NULL,
    last {bigint} NOT NULL,      -- position of the last visible change
    state {bigint} NOT NULL,     -- address of the resolved current state in the room's tree
    next_row {int} NOT NULL,     -- the next unused row of the tree
    partial {small} NOT NULL,
    heads {blob} NOT NULL        -- (event nid, state address after it) packed as two u64 each
) {hot};

CREATE TABLE event (
    nid {bigpk},                 -- its position; auth events always have smaller ones
    ord {bigint},                -- nid << 20 live; counting down in a gap; NULL: outlier, rejected or soft-failed
    ts {bigint} NOT NULL,
    state {bigint},              -- tree address before the event; NULL unknown
    thread {bigint},             -- nid of the thread's root, NULL main; fixed at arrival
    room {int} NOT NULL,
    sender {int} NOT NULL,
    depth {bigint} NOT NULL,
    skey {int},
    etype {int} NOT NULL,
    flags {small} NOT NULL,      -- see storage/events.py
    codec {small} NOT NULL,      -- dictionary of the envelope; 0 raw
    c0 {int} NOT NULL,           -- where the content goes into the envelope
    id {blob} NOT NULL UNIQUE,   -- 32 hash bytes; the text in room versions 1 and 2
    auth {blob},                 -- nids of auth events, packed u64; state events only
    content {blob} NOT NULL,
    envelope {blob} NOT NULL     -- PDU = envelope[:c0] + content + envelope[c0:]
);
CREATE UNIQUE INDEX event_ord ON event (room, ord);
--@postgresql
CREATE INDEX event_notifies ON event (room, ord) INCLUDE (sender, thread, flags) WHERE flags & 1 = 1;
--@sqlite
CREATE INDEX event_notifies ON event (room, ord, sender, thread, flags) WHERE flags & 1 = 1;
CREATE INDEX event_spine ON event (room) WHERE flags & 8 = 8;
CREATE INDEX event_sender ON event (sender, nid);

CREATE TABLE gap (room {int} NOT NULL, event {bigint} NOT NULL, next_ord {bigint} NOT NULL, missing {blob} NOT NULL, PRIMARY KEY (room, event)) {compact};
CREATE TABLE state_node (room {int} NOT NULL, row {int} NOT NULL, nodes {blob} NOT NULL, PRIMARY KEY (room, row)) {compact};
CREATE TABLE state_log (room {int} NOT NULL, pos {bigint} NOT NULL, skey {int} NOT NULL, event {bigint}, PRIMARY KEY (room, pos, skey)) {compact};
CREATE TABLE state_now (room {int} NOT NULL, skey {int} NOT NULL, event {bigint} NOT NULL, PRIMARY KEY (room, skey)) {compact};

CREATE TABLE membership (
    usr {int} NOT NULL,
    room {int} NOT NULL,
    kind {small} NOT NULL,       -- see storage/membership.py
    event {bigint} NOT NULL,
    since {bigint} NOT NULL,     -- position from which this membership holds
    forgotten {small} NOT NULL,
    PRIMARY KEY (usr, room)
) {compact};
CREATE INDEX membership_room ON membership (room, kind, usr);

-- What an invited or knocking user may see of a room: a JSON list of stripped state events.
CREATE TABLE stripped_state (usr {int} NOT NULL, room {int} NOT NULL, events {blob} NOT NULL, PRIMARY KEY (usr, room)) {compact};

CREATE TABLE txn (device {int} NOT NULL, scope {blob} NOT NULL, event {bigint} NOT NULL, at {int} NOT NULL, PRIMARY KEY (device, scope)) {compact};

CREATE TABLE relation (parent {bigint} NOT NULL, kind {small} NOT NULL, child {bigint} NOT NULL, PRIMARY KEY (parent, kind, child)) {compact};
CREATE TABLE relation_waiting (parent {blob} NOT NULL, child {bigint} NOT NULL, kind {small} NOT NULL, PRIMARY KEY (parent, child)) {compact};

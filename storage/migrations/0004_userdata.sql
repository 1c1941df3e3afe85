-- SPDX-License-Identifier: Apache-2.0
-- What a user keeps for themself: account data and tags, receipts, push rules and their unread classes,
-- presence, pushers. Tokens in braces are those of storage/dialect.py.

-- room 0: the account itself. content is empty where the entry was deleted (MSC3391): the row stays so that sync can say so.
CREATE TABLE account_data (
    usr {int} NOT NULL,
    room {int} NOT NULL,
    type {blob} NOT NULL,
    content {blob} NOT NULL,
    pos {bigint} NOT NULL,
    PRIMARY KEY (usr, room, type)
){compact};
CREATE INDEX account_data_pos ON account_data (usr, pos);

-- thread: -1 unthreaded, 0 the main timeline, else the number of the thread's root event. kind: 1 m.read, 2 m.read.private.
CREATE TABLE receipt (
    room {int} NOT NULL,
    usr {int} NOT NULL,
    thread {bigint} NOT NULL,
    kind {small} NOT NULL,
    ord {bigint} NOT NULL,
    ts {bigint} NOT NULL,
    pos {bigint} NOT NULL,
    PRIMARY KEY (room, usr, thread, kind)
){compact};
CREATE INDEX receipt_pos ON receipt (room, pos);

-- One document per user that changed anything: own rules in their order, and what they changed in the default ones.
CREATE TABLE push_rules (
    usr {int} NOT NULL PRIMARY KEY,
    rules {blob} NOT NULL,
    pos {bigint} NOT NULL
){compact};

-- Which base a user's unread counts start from, for events after pos: the class of all rooms and the rooms that differ.
CREATE TABLE push_class (
    usr {int} NOT NULL,
    pos {bigint} NOT NULL,
    classes {blob} NOT NULL,
    PRIMARY KEY (usr, pos)
){compact};

-- Where a user's notifications differ from that base: dn and dh are added to the counts. thread: NULL the main timeline.
CREATE TABLE unread_exception (
    usr {int} NOT NULL,
    room {int} NOT NULL,
    ord {bigint} NOT NULL,
    thread {bigint},
    dn {small} NOT NULL,
    dh {small} NOT NULL,
    PRIMARY KEY (usr, room, ord)
) {compact};
CREATE INDEX unread_exception_event ON unread_exception (room, ord);

-- Counting per thread reads only events in threads, however old the floor of the room is.
CREATE INDEX event_thread_notifies ON event (room, ord) WHERE flags & 1 = 1 AND thread IS NOT NULL;

-- state: 1 online, 2 unavailable, 3 offline.
CREATE TABLE presence (
    usr {int} NOT NULL PRIMARY KEY,
    state {small} NOT NULL,
    status {blob},
    last_active {bigint} NOT NULL,
    pos {bigint} NOT NULL
){compact};

CREATE INDEX presence_pos ON presence (pos);

-- done: the last position whose events this pusher was told of. failing_since: when the gateway stopped answering, else 0.
CREATE TABLE pusher (
    usr {int} NOT NULL,
    app_id {blob} NOT NULL,
    pushkey {blob} NOT NULL,
    kind {blob} NOT NULL,
    body {blob} NOT NULL,
    device {int} NOT NULL,
    token {bigint} NOT NULL,
    enabled {small} NOT NULL,
    created {bigint} NOT NULL,
    done {bigint} NOT NULL,
    failing_since {bigint} NOT NULL,
    PRIMARY KEY (usr, app_id, pushkey)
){compact};
CREATE INDEX pusher_key ON pusher (app_id, pushkey);

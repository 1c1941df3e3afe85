-- What is found by name: aliases, the published rooms, full text, the user directory; and delayed events.
-- Tokens in braces are those of storage/dialect.py.

CREATE TABLE alias (
    name {blob} NOT NULL PRIMARY KEY,
    room {int} NOT NULL,
    creator {int} NOT NULL
){compact};
CREATE INDEX alias_room ON alias (room);

-- network: empty for this server's own list, else "application service|network".
CREATE TABLE published (
    network {blob} NOT NULL,
    room {int} NOT NULL,
    PRIMARY KEY (network, room)
){compact};
CREATE INDEX published_room ON published (room);

-- How far each reader of the event stream has come.
CREATE TABLE stream_cursor (
    reader {text} NOT NULL PRIMARY KEY,
    pos {bigint} NOT NULL
){compact};

-- event: the message that is found, under the words of its newest edit. kind: 1 content.body, 2 content.name, 3 content.topic.
--@sqlite
CREATE TABLE search_doc (
    event {bigpk},
    room {int} NOT NULL,
    sender {int} NOT NULL,
    kind {small} NOT NULL,
    source {bigint} NOT NULL,
    words {text} NOT NULL
);
--@postgresql
CREATE TABLE search_doc (
    event {bigpk},
    room {int} NOT NULL,
    sender {int} NOT NULL,
    kind {small} NOT NULL,
    source {bigint} NOT NULL,
    words tsvector NOT NULL
);
CREATE INDEX search_doc_source ON search_doc (source);
CREATE INDEX search_doc_room ON search_doc (room);
--@sqlite
CREATE VIRTUAL TABLE search_word USING fts5(words, content='search_doc', content_rowid='event', tokenize="unicode61 remove_diacritics 0");
--@postgresql
CREATE INDEX search_doc_words ON search_doc USING gin (words);

-- Whom the user directory knows: the display name and avatar last seen in a membership event or a profile.
--@sqlite
CREATE TABLE directory_user (
    usr {pk},
    name {blob},
    avatar {blob},
    words {text} NOT NULL
);
--@postgresql
CREATE TABLE directory_user (
    usr {pk},
    name {blob},
    avatar {blob},
    words tsvector NOT NULL
);
--@sqlite
CREATE VIRTUAL TABLE directory_word USING fts5(words, content='directory_user', content_rowid='usr', tokenize="unicode61 remove_diacritics 0");
--@postgresql
CREATE INDEX directory_user_words ON directory_user USING gin (words);

-- Rooms whose members everybody may find: anybody may join or read them.
CREATE TABLE open_room (
    room {int} NOT NULL,
    reason {small} NOT NULL,
    PRIMARY KEY (room, reason)
){compact};

-- outcome: 0 scheduled, 1 sent, 2 cancelled, 3 failed. since: when the delay began; fires = since + delay.
CREATE TABLE delayed_event (
    id {blob} NOT NULL PRIMARY KEY,
    usr {int} NOT NULL,
    device {int} NOT NULL,
    scope {blob} NOT NULL,
    room {blob} NOT NULL,
    etype {blob} NOT NULL,
    skey {blob},
    content {blob} NOT NULL,
    delay {bigint} NOT NULL,
    since {bigint} NOT NULL,
    outcome {small} NOT NULL,
    detail {blob},
    ended {bigint}
){compact};
CREATE INDEX delayed_event_due ON delayed_event (outcome, usr);
CREATE UNIQUE INDEX delayed_event_scope ON delayed_event (usr, device, scope);

-- The threads of a room; only events in threads are in it.
CREATE INDEX event_thread ON event (room, thread, ord) WHERE thread IS NOT NULL;

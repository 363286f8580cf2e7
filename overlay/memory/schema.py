"""The tables of a memory: texts, passages, vectors, words, links, sources, folds and a journal."""

from overlay.memory.fold_tables import FOLD_SCHEMA

SCHEMA_VERSION = "3"

SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}');
CREATE TABLE notes (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,
    written_at REAL NOT NULL,
    event_at REAL NOT NULL,
    valid_from REAL NOT NULL,
    valid_to REAL,
    superseded_by TEXT,
    importance REAL NOT NULL,
    pinned INTEGER NOT NULL,
    expires_at REAL,
    namespace TEXT NOT NULL,
    stream TEXT NOT NULL,
    place INTEGER NOT NULL,
    state TEXT NOT NULL,
    height INTEGER NOT NULL,
    -- The journal's numbers of the writes that made it and that ended its validity.
    written INTEGER NOT NULL,
    closed INTEGER,
    -- Of the text without what doesn't change what it says: case, space, punctuation.
    digest BLOB NOT NULL,
    -- Last, so that a query for anything else doesn't read through it.
    text TEXT NOT NULL
);
CREATE INDEX notes_digest ON notes(digest);
-- The name by which links find a note at any time: its id, or the id that it once had.
CREATE INDEX notes_name ON notes(coalesce(superseded_by, id));
CREATE INDEX notes_current ON notes(namespace, kind, height) WHERE valid_to IS NULL;
CREATE INDEX notes_closed ON notes(closed) WHERE closed IS NOT NULL;
CREATE INDEX notes_stream ON notes(namespace, stream, place) WHERE stream <> '';
CREATE INDEX notes_expiry ON notes(expires_at) WHERE expires_at IS NOT NULL AND valid_to IS NULL;
CREATE TABLE tags (
    tag TEXT NOT NULL,
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    PRIMARY KEY (tag, key)
) WITHOUT ROWID;
CREATE INDEX tags_key ON tags(key);
CREATE TABLE passages (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    note INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    -- What full text knows of it, one blank between two: a query compares them with its own.
    stems TEXT NOT NULL
);
CREATE INDEX passages_note ON passages(note, position);
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY REFERENCES passages(key) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
-- What another embedder has computed so far; it takes the place of `vectors` when it is complete.
CREATE TABLE vectors_next (
    passage INTEGER PRIMARY KEY REFERENCES passages(key) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
-- The columns of the primary key stand first: SQLite 3.40 takes any other order for damage (PRAGMA quick_check).
CREATE TABLE links (
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    target TEXT NOT NULL,
    position INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    PRIMARY KEY (key, target)
) WITHOUT ROWID;
CREATE INDEX links_target ON links(target);
CREATE TABLE sources (
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    source TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (key, source)
) WITHOUT ROWID;
CREATE TABLE vault_files (
    note_id TEXT PRIMARY KEY,
    folder TEXT NOT NULL,
    file TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX vault_files_folder ON vault_files(folder);
-- Passages whose change the vector index has not seen yet.
CREATE TABLE index_queue (passage INTEGER PRIMARY KEY);
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    action TEXT NOT NULL,
    note_id TEXT NOT NULL
);
CREATE INDEX journal_note ON journal(note_id);
-- The tokenizer only has to divide the stems at the blanks.
CREATE VIRTUAL TABLE passages_text USING fts5(
    stems, content='passages', content_rowid='key', tokenize='unicode61 remove_diacritics 0'
);
CREATE VIRTUAL TABLE passages_words USING fts5vocab(passages_text, row);
{FOLD_SCHEMA}
"""

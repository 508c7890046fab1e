// The schema of `fleet.db`, step by step. What has shipped is never edited: a change is a new step at the end, and a
// sample of what the step before it left goes to Tests/StoreTests/Releases.

/// One step. Its version is what `PRAGMA user_version` says afterwards.
package struct Migration: Sendable {
    package let version: Int
    package let name: String
    package let sql: String

    package init(version: Int, name: String, sql: String) {
        self.version = version
        self.name = name
        self.sql = sql
    }

    package static let all = [
        Migration(
            version: 1, name: "people, devices, services",
            sql: """
                CREATE TABLE migration (
                    version INTEGER PRIMARY KEY,
                    name TEXT NOT NULL,
                    applied INTEGER NOT NULL,
                    martlet TEXT NOT NULL
                ) STRICT;

                CREATE TABLE user (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    email TEXT NOT NULL UNIQUE,
                    name TEXT NOT NULL,
                    password_hash TEXT NOT NULL,
                    role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
                    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
                    must_change_password INTEGER NOT NULL DEFAULT 0 CHECK (must_change_password IN (0, 1)),
                    created INTEGER NOT NULL
                ) STRICT;

                CREATE TABLE device (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    device_id TEXT NOT NULL UNIQUE,
                    name TEXT NOT NULL,
                    model TEXT,
                    mac TEXT,
                    registered INTEGER NOT NULL,
                    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1))
                ) STRICT;

                CREATE TABLE membership (
                    tenant INTEGER NOT NULL DEFAULT 1,
                    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
                    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    role TEXT NOT NULL CHECK (role IN ('owner')),
                    PRIMARY KEY (user, device)
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX membership_device ON membership (device);

                CREATE TABLE service (
                    name TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    policy TEXT NOT NULL,
                    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
                    created INTEGER NOT NULL
                ) STRICT;

                -- The subject is a device's id or a service's name.
                CREATE TABLE credential (
                    tenant INTEGER NOT NULL DEFAULT 1,
                    kind TEXT NOT NULL CHECK (kind IN ('device', 'service')),
                    subject TEXT NOT NULL,
                    digest BLOB NOT NULL CHECK (length(digest) = 48),
                    created INTEGER NOT NULL,
                    PRIMARY KEY (kind, subject)
                ) STRICT, WITHOUT ROWID;

                -- By deviceId and without a reference: a certificate that was revoked stays so when its device is gone.
                CREATE TABLE certificate (
                    serial TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    device TEXT,
                    subject TEXT NOT NULL,
                    not_before INTEGER NOT NULL,
                    not_after INTEGER NOT NULL,
                    fingerprint BLOB NOT NULL,
                    issued INTEGER NOT NULL,
                    revoked INTEGER,
                    reason TEXT
                ) STRICT;
                CREATE INDEX certificate_device ON certificate (device);

                CREATE TABLE activity (
                    id INTEGER PRIMARY KEY,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    time INTEGER NOT NULL,
                    actor TEXT NOT NULL,
                    address TEXT,
                    device TEXT,
                    kind TEXT NOT NULL,
                    detail TEXT NOT NULL
                ) STRICT;
                CREATE INDEX activity_device ON activity (device, id);
                """),
        Migration(
            version: 2, name: "log-ins, keys, tags, invites, claims, states, health",
            sql: """
                -- A list, as JSON.
                ALTER TABLE device ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';

                -- Log-ins that count, by the jti of their JWT.
                CREATE TABLE token (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
                    -- Of `signing_key`, which is kept as long as a log-in that it has signed counts.
                    key TEXT NOT NULL,
                    issued INTEGER NOT NULL,
                    expires INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX token_user ON token (user);

                CREATE TABLE signing_key (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    purpose TEXT NOT NULL CHECK (purpose IN ('jwt', 'url')),
                    secret BLOB NOT NULL CHECK (length(secret) = 32),
                    created INTEGER NOT NULL
                ) STRICT;

                CREATE INDEX activity_kind ON activity (kind, id);

                -- The digest is the SHA-256 of 128 random bits, so it needs no salt and can be looked for. Who made it and who
                -- used it are names as the activity log has them: they stay when somebody is deleted.
                CREATE TABLE invite (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
                    role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
                    email TEXT,
                    maker TEXT NOT NULL,
                    created INTEGER NOT NULL,
                    expires INTEGER NOT NULL,
                    used INTEGER,
                    used_by TEXT
                ) STRICT, WITHOUT ROWID;

                -- What makes an imported device somebody's, once.
                CREATE TABLE claim (
                    device TEXT PRIMARY KEY NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    digest BLOB NOT NULL CHECK (length(digest) = 48),
                    created INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;

                -- What devices do, as it was lately: it lives in memory.
                CREATE TABLE device_state (
                    device TEXT PRIMARY KEY NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    online INTEGER NOT NULL,
                    last_seen INTEGER,
                    since INTEGER,
                    reason TEXT,
                    sessions INTEGER NOT NULL,
                    led INTEGER,
                    -- JSON, as is `health`.
                    status TEXT,
                    firmware TEXT,
                    health TEXT,
                    health_time INTEGER,
                    unreadable INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;

                -- What a device has reported in a part of a day, a row each: one of each report would be written to another
                -- page of the file each time. `points` is a list, as JSON, of one for each `step` milliseconds.
                CREATE TABLE health (
                    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    start INTEGER NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    step INTEGER NOT NULL,
                    points TEXT NOT NULL,
                    PRIMARY KEY (device, start)
                ) STRICT, WITHOUT ROWID;

                -- What waits for devices that are away.
                CREATE TABLE command (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    payload TEXT NOT NULL,
                    actor TEXT NOT NULL,
                    created INTEGER NOT NULL,
                    expires INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;
                """),
        Migration(
            version: 3, name: "models, firmware, deployments",
            sql: """
                -- What devices of one model have in common. One that nobody has described has no row.
                CREATE TABLE model (
                    name TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    chip TEXT,
                    flash_size INTEGER,
                    ota_payload TEXT NOT NULL CHECK (ota_payload IN ('json', 'url')),
                    packet_limit INTEGER NOT NULL,
                    -- A list of PEM texts and of digests, as JSON.
                    keys TEXT NOT NULL
                ) STRICT, WITHOUT ROWID;

                -- What is known of the releases under firmware/. Which one is production, and which are blocked, the files
                -- there say. The version is without a v in front.
                CREATE TABLE firmware (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    model TEXT NOT NULL,
                    version TEXT NOT NULL,
                    description TEXT NOT NULL,
                    size INTEGER NOT NULL,
                    digest BLOB NOT NULL CHECK (length(digest) = 32),
                    -- Detached, of the whole file.
                    signature BLOB,
                    state TEXT NOT NULL CHECK (state IN ('UPLOADED', 'VERIFIED', 'APPROVED')),
                    -- JSON.
                    analysis TEXT NOT NULL,
                    uploader TEXT NOT NULL,
                    created INTEGER NOT NULL,
                    verified INTEGER,
                    approver TEXT,
                    approved INTEGER,
                    promoted INTEGER,
                    UNIQUE (model, version)
                ) STRICT, WITHOUT ROWID;

                -- The way of one release to one device, kept when it is over.
                CREATE TABLE deployment (
                    id TEXT PRIMARY KEY NOT NULL,
                    tenant INTEGER NOT NULL DEFAULT 1,
                    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
                    model TEXT NOT NULL,
                    version TEXT NOT NULL,
                    previous TEXT,
                    actor TEXT NOT NULL,
                    created INTEGER NOT NULL,
                    state TEXT NOT NULL,
                    since INTEGER NOT NULL,
                    due INTEGER NOT NULL,
                    progress INTEGER,
                    reason TEXT,
                    attempts INTEGER NOT NULL,
                    offered INTEGER NOT NULL,
                    reported_done INTEGER NOT NULL,
                    on_its_word INTEGER NOT NULL,
                    started INTEGER,
                    ended INTEGER
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX deployment_device ON deployment (device, id);
                """),
    ]
}

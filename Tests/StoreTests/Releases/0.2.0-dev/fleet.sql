PRAGMA application_id = 1836217452;
PRAGMA user_version = 2;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE migration (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied INTEGER NOT NULL,
    martlet TEXT NOT NULL
) STRICT;
INSERT INTO migration VALUES(1,'people, devices, services',1795411499743,'0.1.0');
INSERT INTO migration VALUES(2,'log-ins, keys, tags, invites, claims, states, health',1795411499743,'0.1.0');
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
INSERT INTO user VALUES('01a206dd-5bfe-7b22-88c9-d3d5ee9d4f55',1,'ann@example.org','Ann','$scrypt$ln=14,r=8,p=5$j7iq1D+xhONBXY+rwRGR8A$jz0Z2Xr9LoxsrYC0erhcSe65IXh266VSS+VNYYZOMAk','admin',0,0,1795411500030);
INSERT INTO user VALUES('01a206dd-5d49-7752-9c05-e755d8c66e1f',1,'bob@example.org','','$scrypt$ln=14,r=8,p=5$xvHmXEoQ7doEDY3QLi3FiA$LgY2Xtq7ttOF9AZ1KBpVQ1YgL+02H8ZsZFbh85cp/QM','user',1,0,1795411500361);
CREATE TABLE device (
    id TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    device_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    model TEXT,
    mac TEXT,
    registered INTEGER NOT NULL,
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1))
, tags TEXT NOT NULL DEFAULT '[]') STRICT;
INSERT INTO device VALUES('01a206dd-5d83-762f-b1ab-85be25fdb50b',1,'0C5D32DD2568','Lamp','lamp-v1','0C:5D:32:DD:25:68',1795411500419,0,'[]');
INSERT INTO device VALUES('01a206dd-5dac-712a-ad67-913e78a889bf',1,'PUMP_2','',NULL,NULL,1795411500460,1,'[]');
CREATE TABLE membership (
    tenant INTEGER NOT NULL DEFAULT 1,
    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('owner')),
    PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
INSERT INTO membership VALUES(1,'01a206dd-5d49-7752-9c05-e755d8c66e1f','01a206dd-5d83-762f-b1ab-85be25fdb50b','owner');
CREATE TABLE service (
    name TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    policy TEXT NOT NULL,
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    created INTEGER NOT NULL
) STRICT;
INSERT INTO service VALUES('node-red',1,'backend',0,1795411500519);
CREATE TABLE credential (
    tenant INTEGER NOT NULL DEFAULT 1,
    kind TEXT NOT NULL CHECK (kind IN ('device', 'service')),
    subject TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 48),
    created INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO credential VALUES(1,'device','01a206dd-5d83-762f-b1ab-85be25fdb50b',X'22e3f5589e22b7cd76fd1282f1707d6d007694a81bf43fc13bd0555a263c978aff098b93a2fceb18fb49278ca737a574',1795411500419);
INSERT INTO credential VALUES(1,'device','01a206dd-5dac-712a-ad67-913e78a889bf',X'2453f0250aee447e63f4c85fb808f09a7ed9e69daf5145d4d6b94f52c667d6114a4b0660efe2f6c92dd4174f2da1afeb',1795411500460);
INSERT INTO credential VALUES(1,'service','node-red',X'686c95cbcd975223e2ad01b7734d452a599267c1a37094df40835d767888541e3a9289748fea539b7975670737081036',1795411500519);
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
INSERT INTO activity VALUES(1,1,1795411500030,'local:root',NULL,NULL,'USER_REGISTERED','{"email":"ann@example.org","role":"admin"}');
INSERT INTO activity VALUES(2,1,1795411500361,'local:root',NULL,NULL,'USER_REGISTERED','{"email":"bob@example.org","role":"user"}');
INSERT INTO activity VALUES(3,1,1795411500394,'local:root',NULL,NULL,'USER_BLOCKED','{"email":"bob@example.org"}');
INSERT INTO activity VALUES(4,1,1795411500421,'local:root',NULL,'0C5D32DD2568','DEVICE_REGISTERED','{"owner":"bob@example.org"}');
INSERT INTO activity VALUES(5,1,1795411500461,'local:root',NULL,'PUMP_2','DEVICE_REGISTERED','{"owner":null}');
INSERT INTO activity VALUES(6,1,1795411500489,'local:root',NULL,'PUMP_2','DEVICE_BLOCKED','{}');
INSERT INTO activity VALUES(7,1,1795411500519,'local:root',NULL,NULL,'SERVICE_ADDED','{"policy":"backend","service":"node-red"}');
CREATE TABLE token (
    id TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    -- Of `signing_key`, which is kept as long as a log-in that it has signed counts.
    key TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE signing_key (
    id TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    purpose TEXT NOT NULL CHECK (purpose IN ('jwt', 'url')),
    secret BLOB NOT NULL CHECK (length(secret) = 32),
    created INTEGER NOT NULL
) STRICT;
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
CREATE TABLE claim (
    device TEXT PRIMARY KEY NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    tenant INTEGER NOT NULL DEFAULT 1,
    digest BLOB NOT NULL CHECK (length(digest) = 48),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE TABLE health (
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    step INTEGER NOT NULL,
    points TEXT NOT NULL,
    PRIMARY KEY (device, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE command (
    id TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    payload TEXT NOT NULL,
    actor TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_device ON membership (device);
CREATE INDEX certificate_device ON certificate (device);
CREATE INDEX activity_device ON activity (device, id);
CREATE INDEX token_user ON token (user);
CREATE INDEX activity_kind ON activity (kind, id);
COMMIT;

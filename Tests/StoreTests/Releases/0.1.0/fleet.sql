PRAGMA application_id = 1836217452;
PRAGMA user_version = 1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE migration (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied INTEGER NOT NULL,
    martlet TEXT NOT NULL
) STRICT;
INSERT INTO migration VALUES(1,'people, devices, services',1795323634070,'0.1.0');
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
INSERT INTO user VALUES('01a201a0-a1cf-7000-a044-b5c3f54a8f46',1,'ann@example.org','Ann','$scrypt$ln=14,r=8,p=5$wDZiZmvDOOlTzw9TpWTFgQ$B1+duQO4vtbIhXOCXpEQAdQ/tc11vcyZ450qKj/5F/8','admin',0,0,1795323634127);
INSERT INTO user VALUES('01a201a0-a85a-76d8-8be3-ba19967af47a',1,'bob@example.org','','$scrypt$ln=14,r=8,p=5$hcf2YQz8RaJNPzEVyNeigA$95uSFXUpz0uH8BY8L5OgxP4EJYcoaun1B6Qda4a329U','user',1,0,1795323635802);
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
INSERT INTO device VALUES('01a201a0-acc0-770e-a9f3-b03d06c71a7a',1,'0C5D32DD2568','Lamp','lamp-v1','0C:5D:32:DD:25:68',1795323636928,0);
INSERT INTO device VALUES('01a201a0-add0-71f6-b489-1063db80a122',1,'PUMP_2','',NULL,NULL,1795323637200,1);
CREATE TABLE membership (
    tenant INTEGER NOT NULL DEFAULT 1,
    user TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    device TEXT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('owner')),
    PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
INSERT INTO membership VALUES(1,'01a201a0-a85a-76d8-8be3-ba19967af47a','01a201a0-acc0-770e-a9f3-b03d06c71a7a','owner');
CREATE TABLE service (
    name TEXT PRIMARY KEY NOT NULL,
    tenant INTEGER NOT NULL DEFAULT 1,
    policy TEXT NOT NULL,
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    created INTEGER NOT NULL
) STRICT;
INSERT INTO service VALUES('node-red',1,'backend',0,1795323637590);
CREATE TABLE credential (
    tenant INTEGER NOT NULL DEFAULT 1,
    kind TEXT NOT NULL CHECK (kind IN ('device', 'service')),
    subject TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 48),
    created INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO credential VALUES(1,'device','01a201a0-acc0-770e-a9f3-b03d06c71a7a',X'aba105c7a4dd12039b595365c701fabfd903476e97eb3d4a65b97670b8951ff907549f7c783ad54befbde1105babad9c',1795323636928);
INSERT INTO credential VALUES(1,'device','01a201a0-add0-71f6-b489-1063db80a122',X'873d018462423b673a05a12e7e776daf453ace8e202be341c013ac77426a923fca4d8e5513b39310f3994ea726d4cfcf',1795323637200);
INSERT INTO credential VALUES(1,'service','node-red',X'7fdf1b451cb4164a3f8c5b7a833889e64ab7833caab1b3b725856cd7ef433dfad8d95de1a947b648dc6f4ff7bc836a4a',1795323637590);
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
INSERT INTO activity VALUES(1,1,1795323635522,'local:root',NULL,NULL,'USER_REGISTERED','{"email":"ann@example.org","role":"admin"}');
INSERT INTO activity VALUES(2,1,1795323636486,'local:root',NULL,NULL,'USER_REGISTERED','{"email":"bob@example.org","role":"user"}');
INSERT INTO activity VALUES(3,1,1795323636714,'local:root',NULL,NULL,'USER_BLOCKED','{"email":"bob@example.org"}');
INSERT INTO activity VALUES(4,1,1795323636931,'local:root',NULL,'0C5D32DD2568','DEVICE_REGISTERED','{"owner":"bob@example.org"}');
INSERT INTO activity VALUES(5,1,1795323637203,'local:root',NULL,'PUMP_2','DEVICE_REGISTERED','{"owner":null}');
INSERT INTO activity VALUES(6,1,1795323637418,'local:root',NULL,'PUMP_2','DEVICE_BLOCKED','{}');
INSERT INTO activity VALUES(7,1,1795323637590,'local:root',NULL,NULL,'SERVICE_ADDED','{"policy":"backend","service":"node-red"}');
CREATE INDEX membership_device ON membership (device);
CREATE INDEX certificate_device ON certificate (device);
CREATE INDEX activity_device ON activity (device, id);
COMMIT;

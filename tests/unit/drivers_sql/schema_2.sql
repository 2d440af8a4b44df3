CREATE TABLE headrace_group_type (
    group_name VARCHAR(200) NOT NULL,
    type VARCHAR(255) NOT NULL,
    PRIMARY KEY (group_name, type)
);

CREATE TABLE headrace_inbox (
    number INTEGER NOT NULL,
    group_name VARCHAR(200) NOT NULL,
    source VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL,
    handled_at_ms BIGINT NOT NULL,
    PRIMARY KEY (number),
    CONSTRAINT headrace_inbox_seen UNIQUE (group_name, source, id)
);

CREATE TABLE headrace_lease (
    queue VARCHAR(255) NOT NULL,
    partition INTEGER NOT NULL,
    token BIGINT NOT NULL,
    owner VARCHAR(255),
    expires_at_ms BIGINT NOT NULL,
    position VARCHAR(255),
    PRIMARY KEY (queue, partition)
);

CREATE TABLE headrace_log (
    topic VARCHAR(255) NOT NULL,
    partition INTEGER NOT NULL,
    position BIGINT NOT NULL,
    "key" VARCHAR(255),
    envelope BLOB NOT NULL,
    body BLOB NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (topic, partition, position)
);

CREATE TABLE headrace_meta (
    app VARCHAR(200) NOT NULL,
    name VARCHAR(200) NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (app, name)
);

CREATE TABLE headrace_owner (
    queue VARCHAR(255) NOT NULL,
    owner VARCHAR(255) NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    PRIMARY KEY (queue, owner)
);

CREATE TABLE headrace_queue (
    position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    queue VARCHAR(255) NOT NULL,
    partition INTEGER NOT NULL,
    topic VARCHAR(255) NOT NULL,
    "key" VARCHAR(255),
    envelope BLOB NOT NULL,
    body BLOB NOT NULL,
    state SMALLINT NOT NULL,
    parked_key VARCHAR(255),
    head SMALLINT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at_ms BIGINT,
    error TEXT,
    error_message TEXT,
    traceback TEXT,
    created_at_ms BIGINT NOT NULL
);

CREATE INDEX headrace_queue_due ON headrace_queue (queue, partition, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX headrace_queue_head ON headrace_queue (queue, state, partition, head, position) WHERE head = 1;

CREATE INDEX headrace_queue_parked ON headrace_queue (queue, topic, parked_key, position) WHERE parked_key IS NOT NULL;

CREATE INDEX headrace_queue_state ON headrace_queue (queue, state, partition, position);

CREATE TABLE headrace_topic (
    name VARCHAR(255) NOT NULL,
    partitions INTEGER NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE headrace_topic_partition (
    topic VARCHAR(255) NOT NULL,
    partition INTEGER NOT NULL,
    next_position BIGINT NOT NULL,
    PRIMARY KEY (topic, partition),
    FOREIGN KEY(topic) REFERENCES headrace_topic (name)
);

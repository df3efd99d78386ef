-- The money path's tables. Their rules: docs/escrow.md. Nobody but the functions beside this file writes them.

CREATE TABLE epochs (
    epoch_id uuid PRIMARY KEY,
    shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),
    state text NOT NULL CHECK (state IN ('opening', 'open', 'closing', 'closed')),
    valid_until timestamptz NOT NULL,
    scripts jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    opened_at timestamptz,
    closed_at timestamptz,
    cleaned_at timestamptz,
    reason text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX epochs_one_current ON epochs (shard) WHERE state <> 'closed';

CREATE TABLE counters (
    tenant_id uuid NOT NULL REFERENCES tenants_tenant (id),
    counter_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    subject text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    limit_amount bigint NOT NULL CHECK (limit_amount BETWEEN 0 AND 9007199254740992),
    budget_version integer NOT NULL,
    spent bigint NOT NULL,
    opening bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, counter_id),
    FOREIGN KEY (tenant_id, budget_id) REFERENCES budgets_budget (tenant_id, id)
);
CREATE INDEX counters_by_budget ON counters (tenant_id, budget_id, subject, starts_at);

CREATE TABLE counter_subjects (
    tenant_id uuid NOT NULL,
    budget_id uuid NOT NULL,
    starts_at timestamptz NOT NULL,
    subjects bigint NOT NULL,
    PRIMARY KEY (tenant_id, budget_id, starts_at),
    FOREIGN KEY (tenant_id, budget_id) REFERENCES budgets_budget (tenant_id, id)
);

CREATE TABLE grants (
    tenant_id uuid NOT NULL,
    counter_id uuid NOT NULL,
    epoch_id uuid NOT NULL REFERENCES epochs (epoch_id),
    incarnation integer NOT NULL CHECK (incarnation >= 1),
    state text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'retired', 'lost')),
    authority bigint NOT NULL DEFAULT 0 CHECK (authority >= 0),
    granted bigint NOT NULL DEFAULT 0 CHECK (granted >= 0),
    target bigint NOT NULL DEFAULT 0 CHECK (target >= 0),
    clamped bigint NOT NULL DEFAULT 0 CHECK (clamped >= 0),
    seq integer NOT NULL DEFAULT 0,
    acked_seq integer NOT NULL DEFAULT 0 CHECK (acked_seq <= seq),
    sent_at timestamptz NOT NULL DEFAULT now(),
    chunk_at timestamptz,
    chunk bigint NOT NULL DEFAULT 0,
    left_at timestamptz,
    answered_at timestamptz,
    PRIMARY KEY (tenant_id, counter_id, epoch_id, incarnation),
    FOREIGN KEY (tenant_id, counter_id) REFERENCES counters (tenant_id, counter_id)
);
CREATE INDEX grants_by_epoch ON grants (epoch_id, state);
CREATE INDEX grants_not_given_up ON grants (epoch_id) WHERE state = 'live' OR state = 'retired' AND answered_at IS NULL;
CREATE INDEX grants_unacknowledged ON grants (sent_at) WHERE state = 'live' AND acked_seq < seq;

CREATE TABLE hold_resolutions (
    hold_id uuid NOT NULL,
    placed_month date NOT NULL,
    tenant_id uuid NOT NULL,
    epoch_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('settled', 'voided', 'presumed', 'written_off')),
    flags text[] NOT NULL DEFAULT '{}',
    counters uuid[] NOT NULL,
    incarnations integer[] NOT NULL,
    held bigint[] NOT NULL,
    live boolean[] NOT NULL,
    first bigint[] NOT NULL,
    posted bigint[] NOT NULL,
    posted_before bigint[],
    held_cost_nano bigint NOT NULL,
    cost_nano bigint NOT NULL,
    cost_before_nano bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL,
    tokens_before bigint NOT NULL DEFAULT 0,
    requests smallint NOT NULL,
    requests_before smallint NOT NULL DEFAULT 0,
    usage_digest bytea NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    resolved_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hold_id, placed_month),
    CHECK (cardinality(counters) <= 17 AND cardinality(held) = cardinality(counters)
        AND cardinality(first) = cardinality(counters) AND cardinality(live) = cardinality(counters)
        AND cardinality(incarnations) = cardinality(counters) AND cardinality(posted) = cardinality(counters))
) PARTITION BY RANGE (placed_month);
CREATE TABLE hold_resolutions_default PARTITION OF hold_resolutions DEFAULT;
CREATE INDEX hold_resolutions_by_tenant ON hold_resolutions (tenant_id, placed_month);

CREATE TABLE ledger_entries (
    hold_id uuid NOT NULL,
    placed_month date NOT NULL,
    revision integer NOT NULL,
    tenant_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('settled', 'voided', 'presumed', 'written_off')),
    flags text[] NOT NULL DEFAULT '{}',
    placed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    api_key text NOT NULL DEFAULT '',
    project text NOT NULL DEFAULT '',
    customer text NOT NULL DEFAULT '',
    end_user text NOT NULL DEFAULT '',
    run text NOT NULL DEFAULT '',
    plan text NOT NULL DEFAULT '',
    tags jsonb NOT NULL DEFAULT '{}',
    provider text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    reported_model text NOT NULL DEFAULT '',
    price_id text NOT NULL DEFAULT '',
    cost_nano bigint NOT NULL,
    tokens bigint NOT NULL,
    requests smallint NOT NULL,
    usage jsonb,
    outcome text NOT NULL DEFAULT 'ok',
    latency_ms integer,
    note text NOT NULL DEFAULT '',
    counters uuid[] NOT NULL,
    deltas bigint[] NOT NULL,
    PRIMARY KEY (hold_id, placed_month, revision)
) PARTITION BY RANGE (placed_month);
CREATE TABLE ledger_entries_default PARTITION OF ledger_entries DEFAULT;
CREATE INDEX ledger_entries_by_time ON ledger_entries (tenant_id, placed_at);

// The first schema of the catalogue. Never edited after a release: what changes later is a migration of its own.

/**
 * Times are milliseconds since 1970; sizes are bytes; file times (`mtime_ns`) and inode numbers are text, because they exceed 2^53.
 * `datastore.path` is absolute, `image.path` relative to it with `/` between its parts. What a person wrote stands in `image_note`,
 * `image_tag`, `datastore.name`, `setting`: the tables that are saved when the rest is rebuilt by scanning.
 */
export const first = `
create table storage_resource (
  id text primary key,
  kind text not null check (kind in ('local', 'nas', 'san', 'removable', 'distributed', 'memory', 'other')),
  name text not null
) strict;

create table storage_device (
  id text primary key,
  resource_id text not null references storage_resource (id) on delete cascade,
  kind text not null check (kind in ('disk', 'share', 'lun', 'pool', 'memory', 'other')),
  source text not null,
  file_system text not null,
  model text,
  rotational integer,
  removable integer,
  seen_at integer not null
) strict;

create table host (
  id text primary key,
  name text not null unique
) strict;

create table datastore (
  id text primary key,
  device_id text references storage_device (id) on delete set null,
  name text not null unique,
  path text not null unique,
  capabilities text,
  alert_ratio real not null default 1.0,
  created_at integer not null,
  scanned_at integer
) strict;

create table datastore_host (
  datastore_id text not null references datastore (id) on delete cascade,
  host_id text not null references host (id) on delete cascade,
  primary key (datastore_id, host_id)
) strict, without rowid;

create table image (
  id text primary key,
  datastore_id text not null references datastore (id) on delete cascade,
  path text not null,
  format text,
  subformat text,
  virtual_size integer,
  file_length integer not null,
  allocated integer not null,
  cluster_size integer,
  encrypted integer not null default 0,
  dirty integer not null default 0,
  own_id text,
  own_version text,
  fingerprint text,
  device text not null,
  inode text not null,
  mtime_ns text not null,
  problem_code text,
  problem_text text,
  facts text,
  first_seen integer not null,
  read_at integer not null,
  gone_at integer,
  unique (datastore_id, path)
) strict;

create index image_by_own_id on image (own_id);
create index image_by_fingerprint on image (fingerprint);
create index image_by_inode on image (device, inode);

create table image_file (
  image_id text not null references image (id) on delete cascade,
  role text not null,
  path text not null,
  length integer not null,
  allocated integer not null,
  device text not null,
  inode text not null,
  mtime_ns text not null,
  primary key (image_id, role)
) strict, without rowid;

create index image_file_by_inode on image_file (device, inode);

create table other_file (
  datastore_id text not null references datastore (id) on delete cascade,
  path text not null,
  mtime_ns text not null,
  length integer not null,
  primary key (datastore_id, path)
) strict, without rowid;

create table image_note (
  image_id text primary key references image (id) on delete cascade,
  name text,
  note text
) strict;

create table image_tag (
  image_id text not null references image (id) on delete cascade,
  tag text not null,
  primary key (image_id, tag)
) strict, without rowid;

create index image_by_tag on image_tag (tag);

create table lineage (
  child_id text primary key references image (id) on delete cascade,
  reference text not null,
  reference_format text,
  full_path text,
  parent_id text references image (id) on delete set null,
  found_id text,
  found_version text,
  parent_fingerprint text,
  parent_mtime_ns text,
  parent_names text not null,
  expected text not null,
  state text not null check (state in ('whole', 'missing', 'changed', 'touched', 'loop', 'outside', 'refused'))
) strict;

create index lineage_by_parent on lineage (parent_id);

create table snapshot (
  image_id text not null references image (id) on delete cascade,
  id text not null,
  name text not null,
  taken_at integer not null,
  vm_state_size integer not null,
  disk_size integer not null,
  primary key (image_id, id)
) strict, without rowid;

create table digest (
  image_id text not null references image (id) on delete cascade,
  kind text not null check (kind in ('guest', 'file')),
  algorithm text not null,
  value text not null,
  mtime_ns text not null,
  file_length integer not null,
  made_at integer not null,
  primary key (image_id, kind, algorithm)
) strict, without rowid;

create table finding (
  image_id text not null references image (id) on delete cascade,
  number integer not null,
  code text not null,
  severity text not null,
  text text not null,
  place text not null,
  count integer not null,
  found_at integer not null,
  primary key (image_id, number)
) strict, without rowid;

create table job (
  id text primary key,
  operation text not null,
  params text not null,
  state text not null check (state in ('queued', 'running', 'paused', 'done', 'failed', 'cancelled', 'interrupted')),
  image_id text references image (id) on delete set null,
  pid integer,
  created_at integer not null,
  started_at integer,
  ended_at integer,
  progress text,
  result text,
  error text
) strict;

create index job_by_state on job (state);

create table job_event (
  job_id text not null references job (id) on delete cascade,
  number integer not null,
  at integer not null,
  kind text not null,
  body text not null,
  primary key (job_id, number)
) strict, without rowid;

create table history (
  number integer primary key,
  image_id text references image (id) on delete cascade,
  at integer not null,
  what text not null,
  detail text not null
) strict;

create index history_by_image on history (image_id);

create table setting (
  name text primary key,
  value text not null
) strict, without rowid;
`;

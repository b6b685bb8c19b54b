// Storage migrations under way: what is to be done, and how far it is, so that another run can go on after a crash.

/** `plan` is JSON (`migrate.ts` says what), `step` the number of its steps that are done for certain. */
export const migrations = `
create table migration (
  id text primary key,
  plan text not null,
  step integer not null default 0,
  created_at integer not null,
  ended_at integer,
  error text
) strict;
`;

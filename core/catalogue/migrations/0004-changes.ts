// A number that goes up with every change that somebody could see: programs that share the catalogue learn of each other by it.

const watched: readonly (readonly [table: string, of: string])[] = [
  ['image', ''],
  ['image_note', ''],
  ['image_tag', ''],
  ['lineage', ''],
  ['snapshot', ''],
  ['finding', ''],
  ['digest', ''],
  // Every scan writes its time down; that alone is no news.
  ['datastore', ' of name, path, device_id, capabilities, alert_ratio'],
];

const count = 'begin update change set number = number + 1; end;';

/** One row. Jobs, settings and the history do not count: they have news of their own, or nobody waits for them. */
export const changes = `
create table change (
  number integer not null
) strict;

insert into change (number) values (1);

${watched
  .map(
    ([table, of]) => `create trigger ${table}_added after insert on ${table} ${count}
create trigger ${table}_changed after update${of} on ${table} ${count}
create trigger ${table}_removed after delete on ${table} ${count}`,
  )
  .join('\n')}
`;

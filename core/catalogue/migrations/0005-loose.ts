// Files that were opened although they lie in no datastore: their folder has a row, and is not looked through.

/** `loose`: only the images that were opened by name are known of it. */
export const loose = `
alter table datastore add column kind text not null default 'folder' check (kind in ('folder', 'loose'));
`;

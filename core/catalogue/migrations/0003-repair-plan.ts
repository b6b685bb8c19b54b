// What a repair would do to a finding is kept with it.

/** Null: nothing is known, or the check is older than this column. */
export const repairPlan = `
alter table finding add column repair text;
`;

// What the sentence of a problem is filled from is kept with it, so that it can be said in any language.

/** JSON; null: the image was read before this column was there. */
export const problemDetail = `
alter table image add column problem_detail text;
`;

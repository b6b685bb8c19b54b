// The shape of a row of the message table.

/** What a sentence is filled with. Sizes are bytes. */
export type ErrorDetail = Readonly<Record<string, string | number | boolean>>;

/** Fixed text, or text made of what was found. */
export type Sentence = string | ((detail: ErrorDetail) => string);

// The database behind the catalogue: the one file that knows SQLite.
import Sqlite from 'better-sqlite3';
import { ImageError } from '../errors/image-error.ts';

/** What a cell can hold here. Whole numbers beyond 2^53 are kept as text. */
export type Value = string | number | null;
export type Values = Readonly<Record<string, Value>>;

/** An open database. Statements are prepared once each; parameters are named (`:name`). All calls are synchronous. */
export interface Database {
  readonly path: string;
  /** Runs a statement; gives the number of rows it changed. */
  run(sql: string, values?: Values): number;
  /** The first row, or null. */
  one<Row>(sql: string, values?: Values): Row | null;
  all<Row>(sql: string, values?: Values): Row[];
  /** Several statements without parameters. */
  script(sql: string): void;
  /** All or nothing; the write lock is taken at once. Inside another transaction: part of it. */
  transaction<Result>(work: () => Result): Result;
  close(): void;
}

/** How long a writer waits for another program that writes, in milliseconds. */
const patience = 15_000;

/**
 * Opens (and creates) a database with a write-ahead log and enforced foreign keys. Several programs may hold it open.
 * Throws `catalogue/damaged` for a file that is no database or is broken, `catalogue/storage` when the disk refuses, `catalogue/busy`; its statements
 * also `catalogue/meanwhile` and `catalogue/refused`.
 */
export function openDatabase(path: string): Database {
  const sqlite = translate(path, () => new Sqlite(path, { timeout: patience }));
  try {
    translate(path, () => {
      sqlite.pragma('journal_mode = WAL');
      sqlite.pragma('synchronous = NORMAL');
      sqlite.pragma('foreign_keys = ON');
    });
  } catch (error) {
    sqlite.close();
    throw error;
  }
  return new SqliteDatabase(path, sqlite);
}

class SqliteDatabase implements Database {
  readonly path: string;
  readonly #sqlite: Sqlite.Database;
  readonly #statements = new Map<string, Sqlite.Statement<[Values], unknown>>();

  constructor(path: string, sqlite: Sqlite.Database) {
    this.path = path;
    this.#sqlite = sqlite;
  }

  run(sql: string, values: Values = {}): number {
    return translate(this.path, () => this.#prepare(sql).run(values).changes);
  }

  one<Row>(sql: string, values: Values = {}): Row | null {
    return translate(this.path, () => (this.#prepare(sql).get(values) as Row | undefined) ?? null);
  }

  all<Row>(sql: string, values: Values = {}): Row[] {
    return translate(this.path, () => this.#prepare(sql).all(values) as Row[]);
  }

  script(sql: string): void {
    translate(this.path, () => this.#sqlite.exec(sql));
  }

  transaction<Result>(work: () => Result): Result {
    return translate(this.path, () => this.#sqlite.transaction(work).immediate());
  }

  close(): void {
    this.#statements.clear();
    this.#sqlite.close();
  }

  #prepare(sql: string): Sqlite.Statement<[Values], unknown> {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#sqlite.prepare<[Values], unknown>(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** What the database throws, as the catalogue's codes: nobody outside of this file meets an error of SQLite itself. */
function translate<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Sqlite.SqliteError)) throw error;
    const { code, message } = error;
    const detail = { name: path, reason: message };
    if (/^SQLITE_(NOTADB|CORRUPT)/.test(code)) throw new ImageError('catalogue/damaged', detail, { file: path }, error);
    if (/^SQLITE_BUSY|^SQLITE_LOCKED/.test(code)) throw new ImageError('catalogue/busy', detail, { file: path }, error);
    if (/^SQLITE_(FULL|IOERR|CANTOPEN|READONLY|PERM)/.test(code)) {
      throw new ImageError('catalogue/storage', detail, { file: path }, error);
    }
    // What a row refers to, or what it would have been, was changed by another program after it was looked at.
    if (code.startsWith('SQLITE_CONSTRAINT')) {
      throw new ImageError('catalogue/meanwhile', detail, { file: path }, error);
    }
    throw new ImageError('catalogue/refused', { ...detail, code }, { file: path }, error);
  }
}

/** Kinds of changes that cannot be applied at the other contour, each in a table of its own, and what mends each. */

export interface Poison {
  /** The table. Its columns are id, x, and what `there` names beside them. */
  readonly table: string;
  /** Columns at the source, beside id. */
  readonly there: string;
  /** SQL at the target that makes its table; null: it has none. */
  readonly here: string | null;
  /** Values of the columns after id, as SQL. */
  readonly values: string;
  readonly code: string;
  /** Run at the target; what heals needs nobody else. */
  readonly mend: string;
  /** Not put under replication at the target. */
  readonly bare?: true;
}

const table = (name: string, columns: string) => `CREATE TABLE ${name} (id bigint PRIMARY KEY${columns});`;
const setup = (name: string) => `SELECT setup_table_for_replication('${name}');`;

export const POISONS: readonly Poison[] = [
  {
    table: "missing_table",
    there: "x text",
    here: null,
    values: "'v'",
    code: "apply.unknown_table",
    mend: `${table("missing_table", ", x text")} ${setup("missing_table")}`,
  },
  {
    table: "not_replicated",
    there: "x text",
    here: table("not_replicated", ", x text"),
    bare: true,
    values: "'v'",
    code: "apply.unknown_table",
    mend: setup("not_replicated"),
  },
  {
    table: "missing_column",
    there: "x text",
    here: table("missing_column", ""),
    values: "'v'",
    code: "apply.unknown_column",
    mend: "ALTER TABLE missing_column ADD COLUMN x text",
  },
  {
    table: "generated_here",
    there: "x int, y int",
    here: table("generated_here", ", x int, y int GENERATED ALWAYS AS (x * 2) STORED"),
    values: "1, 5",
    code: "apply.unknown_column",
    mend: "ALTER TABLE generated_here ALTER COLUMN y DROP EXPRESSION",
  },
  {
    table: "key_differs",
    there: "x int",
    here: "CREATE TABLE key_differs (id bigint, x int, PRIMARY KEY (id, x));",
    values: "1",
    code: "apply.key_differs",
    mend: `ALTER TABLE key_differs DROP CONSTRAINT key_differs_pkey, ADD PRIMARY KEY (id);
SELECT setup_table_for_replication('key_differs', '{"primary_key": ["id"]}')`,
  },
  {
    table: "extra_not_null",
    there: "x text",
    here: table("extra_not_null", ", x text, extra int NOT NULL"),
    values: "'v'",
    code: "23502",
    mend: "ALTER TABLE extra_not_null ALTER COLUMN extra SET DEFAULT 0",
  },
  {
    table: "domain_null",
    there: "x int",
    here: `CREATE DOMAIN needed AS int NOT NULL; ${table("domain_null", ", x needed")}`,
    values: "NULL",
    code: "23502",
    mend: "ALTER DOMAIN needed DROP NOT NULL",
  },
  {
    table: "check_here",
    there: "x text",
    here: table("check_here", ", x text CHECK (x <> 'v')"),
    values: "'v'",
    code: "23514",
    mend: "ALTER TABLE check_here DROP CONSTRAINT check_here_x_check",
  },
  {
    table: "domain_check",
    there: "x int",
    here: `CREATE DOMAIN small AS int CONSTRAINT low CHECK (VALUE < 10); ${table("domain_check", ", x small")}`,
    values: "11",
    code: "23514",
    mend: "ALTER DOMAIN small DROP CONSTRAINT low",
  },
  {
    table: "partition_missing",
    there: "x text",
    here: "CREATE TABLE partition_missing (id bigint PRIMARY KEY, x text) PARTITION BY RANGE (id); CREATE TABLE negative PARTITION OF partition_missing FOR VALUES FROM (-9) TO (0);",
    values: "'v'",
    code: "23514",
    mend: "CREATE TABLE others PARTITION OF partition_missing DEFAULT",
  },
  {
    table: "enum_label",
    there: "x mood",
    here: table("enum_label", ", x mood"),
    values: "'angry'",
    code: "22P02",
    mend: "ALTER TYPE mood ADD VALUE 'angry'",
  },
  {
    table: "text_into_int",
    there: "x text",
    here: table("text_into_int", ", x int"),
    values: "'seven'",
    code: "22P02",
    mend: "ALTER TABLE text_into_int ALTER COLUMN x TYPE text",
  },
  {
    table: "text_into_date",
    there: "x text",
    here: table("text_into_date", ", x date"),
    values: "'some day'",
    code: "22007",
    mend: "ALTER TABLE text_into_date ALTER COLUMN x TYPE text",
  },
  {
    table: "varchar_short",
    there: "x text",
    here: table("varchar_short", ", x varchar(3)"),
    values: "'long'",
    code: "22001",
    mend: "ALTER TABLE varchar_short ALTER COLUMN x TYPE varchar(10)",
  },
  {
    table: "smallint_range",
    there: "x int",
    here: table("smallint_range", ", x smallint"),
    values: "40000",
    code: "22003",
    mend: "ALTER TABLE smallint_range ALTER COLUMN x TYPE int",
  },
  {
    table: "numeric_range",
    there: "x numeric",
    here: table("numeric_range", ", x numeric(4, 2)"),
    values: "12345.678",
    code: "22003",
    mend: "ALTER TABLE numeric_range ALTER COLUMN x TYPE numeric",
  },
  {
    table: "parent_missing",
    there: "x bigint",
    here: `CREATE TABLE parent (id bigint PRIMARY KEY); ${table("parent_missing", ", x bigint REFERENCES parent")}`,
    values: "7",
    code: "23503",
    mend: "INSERT INTO parent VALUES (7)",
  },
  {
    table: "trigger_raises",
    there: "x text",
    here: `CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
${table("trigger_raises", ", x text")}
CREATE TRIGGER denying BEFORE INSERT ON trigger_raises FOR EACH ROW EXECUTE FUNCTION deny();
ALTER TABLE trigger_raises ENABLE ALWAYS TRIGGER denying;`,
    values: "'v'",
    code: "P0001",
    mend: "ALTER TABLE trigger_raises DISABLE TRIGGER denying",
  },
  {
    table: "function_in_check",
    there: "x int",
    here: `CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN public.helper($1) > 0; END';
${table("function_in_check", ", x int CHECK (fine(x))")}`,
    values: "1",
    code: "42883",
    mend: "CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql AS 'SELECT $1'",
  },
  {
    table: "function_in_default",
    there: "x int",
    here: `CREATE FUNCTION factored() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(f) FROM public.factor); END';
${table("function_in_default", ", x int, extra int DEFAULT factored()")}`,
    values: "1",
    code: "42P01",
    mend: "CREATE TABLE factor (f int)",
  },
  {
    table: "far_ahead",
    there: "x text",
    here: table("far_ahead", ", x text"),
    values: "'v', 1, clock_timestamp() + interval '45 s', 'a'",
    code: "apply.stamp_out_of_range",
    // Time does.
    mend: "",
  },
  {
    table: "too_high",
    there: "x text",
    here: table("too_high", ", x text"),
    values: "'v', 9007199254740993, clock_timestamp(), 'a'",
    code: "apply.stamp_out_of_range",
    // A person does: these are discarded.
    mend: "",
  },
];

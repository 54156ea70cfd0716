/** The tables of `replicator generate`: how they are made, by what they are recognised, and what a round writes to each. */
import type { GeneratedTable } from "../../../src/core/admin.ts";

export interface Work {
  readonly kind: "inserted" | "updated" | "deleted";
  /** $1: the round's first number, $2: its units. A unit owns the keys ($1 + n) * 4 … + 3, n from 0, of every table. */
  readonly text: string;
  /** Done in one round of so many. */
  readonly every: number;
}

export interface Generated {
  readonly table: GeneratedTable;
  /** Made and written before it. */
  readonly needs: readonly GeneratedTable[];
  readonly ddl: string;
  /** A table of this name that lacks one of them is somebody else's. */
  readonly columns: readonly string[];
  readonly work: readonly Work[];
}

// Keys are drawn at random below 2^52: two contours may generate at once without a sequence they would share.
const KEY = "bigint PRIMARY KEY DEFAULT (random() * 4503599627370496)::bigint";
const UNITS = "generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS u(n)";
const OF_ROUND = "BETWEEN $1::bigint * 4 AND ($1::bigint + $2::bigint) * 4 - 1";

/** Parents first. */
export const GENERATED: readonly Generated[] = [
  {
    table: "users",
    needs: [],
    ddl: `CREATE TABLE IF NOT EXISTS public.users (
    id ${KEY}, name text NOT NULL, email text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());`,
    columns: ["id", "name", "email"],
    work: [
      {
        kind: "inserted",
        every: 1,
        text: `INSERT INTO public.users (id, name, email) SELECT n * 4, 'user ' || n, 'user' || n || '@example.com' FROM ${UNITS}`,
      },
      { kind: "updated", every: 1, text: `UPDATE public.users SET name = name || '*' WHERE id ${OF_ROUND}` },
    ],
  },
  {
    table: "payments",
    needs: ["users"],
    ddl: `CREATE TABLE IF NOT EXISTS public.payments (
    id ${KEY}, user_id bigint NOT NULL REFERENCES public.users ON DELETE CASCADE DEFERRABLE INITIALLY IMMEDIATE,
    amount numeric(12, 2) NOT NULL, status text NOT NULL DEFAULT 'new', created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS payments_user_id ON public.payments (user_id);`,
    columns: ["id", "user_id", "amount", "status"],
    work: [
      {
        kind: "inserted",
        every: 1,
        text: `INSERT INTO public.payments (id, user_id, amount) SELECT n * 4 + p, n * 4, round((random() * 1000)::numeric, 2) FROM ${UNITS}, generate_series(1, 3) AS p`,
      },
      {
        kind: "updated",
        every: 1,
        text: `UPDATE public.payments SET status = 'paid' WHERE id ${OF_ROUND} AND id % 4 < 3`,
      },
      { kind: "deleted", every: 2, text: `DELETE FROM public.payments WHERE id ${OF_ROUND} AND status = 'paid'` },
    ],
  },
  {
    table: "orders",
    needs: ["users"],
    ddl: `CREATE TABLE IF NOT EXISTS public.orders (
    id ${KEY}, user_id bigint NOT NULL REFERENCES public.users (id) ON DELETE CASCADE, amount numeric(12, 2) NOT NULL);
CREATE INDEX IF NOT EXISTS orders_user_id ON public.orders (user_id);`,
    columns: ["id", "user_id", "amount"],
    work: [
      {
        kind: "inserted",
        every: 1,
        text: `INSERT INTO public.orders (id, user_id, amount) SELECT n * 4 + o, n * 4, round((random() * 1000)::numeric, 2) FROM ${UNITS}, generate_series(0, 1) AS o`,
      },
      {
        kind: "updated",
        every: 1,
        text: `UPDATE public.orders SET amount = amount + 1 WHERE id ${OF_ROUND} AND id % 4 = 0`,
      },
      { kind: "deleted", every: 3, text: `DELETE FROM public.orders WHERE id ${OF_ROUND} AND id % 4 = 1` },
    ],
  },
  {
    table: "categories",
    needs: [],
    ddl: `CREATE TABLE IF NOT EXISTS public.categories (id ${KEY}, name text NOT NULL);`,
    columns: ["id", "name"],
    work: [
      {
        kind: "inserted",
        every: 10,
        text: "INSERT INTO public.categories (id, name) SELECT $1::bigint * 4, 'category ' || $1::bigint WHERE $2::bigint > 0",
      },
      {
        kind: "updated",
        every: 2,
        text: `UPDATE public.categories SET name = name || '*' WHERE id = (SELECT id FROM public.categories WHERE id >= ($1::bigint * 4) - $2::bigint ORDER BY id LIMIT 1) AND length(name) < 100`,
      },
    ],
  },
  {
    table: "products",
    needs: ["categories"],
    ddl: `CREATE TABLE IF NOT EXISTS public.products (
    id ${KEY}, category_id bigint REFERENCES public.categories (id) ON DELETE SET NULL, title text NOT NULL,
    price numeric(12, 2) NOT NULL, deleted_at timestamptz);
CREATE INDEX IF NOT EXISTS products_category_id ON public.products (category_id);`,
    columns: ["id", "category_id", "title", "price", "deleted_at"],
    work: [
      {
        kind: "inserted",
        every: 1,
        text: `INSERT INTO public.products (id, category_id, title, price)
SELECT n * 4, (SELECT id FROM public.categories WHERE id >= $1::bigint * 4 ORDER BY id LIMIT 1), 'product ' || n, round((random() * 100)::numeric, 2) FROM ${UNITS}`,
      },
      {
        kind: "updated",
        every: 1,
        text: `UPDATE public.products SET price = round(price * 1.1, 2) WHERE id ${OF_ROUND}`,
      },
      // A product that is gone keeps its row: soft delete is an update.
      {
        kind: "updated",
        every: 4,
        text: `UPDATE public.products SET deleted_at = clock_timestamp() WHERE id ${OF_ROUND}`,
      },
    ],
  },
];

/** The tables asked for and those they refer to, parents first. */
export function withParents(tables: readonly GeneratedTable[]): readonly Generated[] {
  const wanted = new Set<GeneratedTable>();
  const add = (table: GeneratedTable) => {
    wanted.add(table);
    for (const parent of GENERATED.find((one) => one.table === table)?.needs ?? []) add(parent);
  };
  for (const table of tables) add(table);
  return GENERATED.filter(({ table }) => wanted.has(table));
}

/** The import rules of ARCHITECTURE.md, over the source text: type-only imports count as well. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

const ROOT = join(import.meta.dir, "..", "..");
const STAGES = ["capture", "publish", "consume", "apply", "sync", "snapshot"];
const MAY_IMPORT_ADAPTERS = /^src\/(registry\.ts|run\.ts|main\.ts|cli\/)/;
const CLIENT_LIBRARIES = /^(postgres|kafkajs|@nats-io\/.+)$/;
const IMPORT =
  /(?:^|[\s;}])(?:import|export)\b(?:[^"';]*?\bfrom)?\s*["']([^"']+)["']|\bimport\s*\(\s*["']([^"']+)["']/g;

interface Import {
  readonly from: string;
  /** A path from the root of the repository, or the name of a package. */
  readonly to: string;
}

/** Text without comments, where the word import may stand in a sentence. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
}

function specifiers(text: string): string[] {
  return [...withoutComments(text).matchAll(IMPORT)].map(([, plain, dynamic]) => plain ?? dynamic ?? "");
}

function sources(folder: string): string[] {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true })
    .map((name) => posix.join(folder, String(name).replaceAll("\\", "/")))
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".d.ts"))
    .sort();
}

const files = [...sources("src"), ...sources("adapters")];
const imports: Import[] = files.flatMap((from) =>
  specifiers(readFileSync(join(ROOT, from), "utf8")).map((name) => ({
    from,
    to: name.startsWith(".") ? posix.normalize(posix.join(posix.dirname(from), name)) : name,
  })),
);

/** The imports that a rule forbids, one line each. */
function broken(rule: (from: string, to: string) => boolean): string[] {
  return imports.filter(({ from, to }) => rule(from, to)).map(({ from, to }) => `${from} imports ${to}`);
}

/** `src/capture` of `src/capture/cutter.ts`. */
const folderOf = (path: string) => path.split("/").slice(0, 2).join("/");
const isStage = (folder: string) => STAGES.some((stage) => folder === `src/${stage}`);
const isOurs = (path: string) => /^(src|adapters|sql|config)\//.test(path);

describe("layering", () => {
  test("all import forms are seen", () => {
    const text = `import a from "./a.ts";\nimport type { B } from "./b.ts";\nexport * from "./c.ts";\nimport "./d.ts";
import {\n  e,\n} from "./e.ts";\nconst f = await import("./f.ts");\nimport g from "../g.sql" with { type: "text" };
// import h from "./h.ts";\nexport const x = 1;\nconst y = "from";\ntype Z = import("./z.ts").Z;`;
    expect(specifiers(text)).toEqual([
      "./a.ts",
      "./b.ts",
      "./c.ts",
      "./d.ts",
      "./e.ts",
      "./f.ts",
      "../g.sql",
      "./z.ts",
    ]);
    expect(files.length).toBeGreaterThan(0);
  });

  test("src imports no adapter, but for the registry and the composition root", () => {
    expect(
      broken((from, to) => from.startsWith("src/") && to.startsWith("adapters/") && !MAY_IMPORT_ADAPTERS.test(from)),
    ).toEqual([]);
  });

  test("an adapter imports src/core and its own folder only", () => {
    expect(
      broken((from, to) => {
        if (!from.startsWith("adapters/") || !isOurs(to)) return false;
        const isSql = to.startsWith("sql/") && from.startsWith("adapters/postgres/");
        return !(to.startsWith("src/core/") || folderOf(to) === folderOf(from) || isSql);
      }),
    ).toEqual([]);
  });

  test("a stage imports src/core and its own folder only", () => {
    expect(
      broken((from, to) => {
        if (!isStage(folderOf(from)) || !isOurs(to)) return false;
        return !(to.startsWith("src/core/") || folderOf(to) === folderOf(from));
      }),
    ).toEqual([]);
  });

  test("src/core imports nothing of ours outside src/core", () => {
    expect(broken((from, to) => from.startsWith("src/core/") && isOurs(to) && !to.startsWith("src/core/"))).toEqual([]);
  });

  test("each client library is imported in one adapter's folder only", () => {
    const users = new Map<string, Set<string>>();
    for (const { from, to } of imports) {
      const library = CLIENT_LIBRARIES.exec(to)?.[0].replace(/^@nats-io\/.+/, "@nats-io");
      if (library) users.set(library, (users.get(library) ?? new Set()).add(folderOf(from)));
    }
    const owners = { postgres: "adapters/postgres", kafkajs: "adapters/kafka", "@nats-io": "adapters/nats" };
    for (const [library, folders] of users) {
      expect({ library, folders: [...folders] }).toEqual({
        library,
        folders: [owners[library as keyof typeof owners]],
      });
    }
  });

  test("every relative import names a file that exists, with its ending", () => {
    expect(broken((_, to) => isOurs(to) && !existsSync(join(ROOT, to)))).toEqual([]);
  });

  test("no file imports itself through others", () => {
    const edges = new Map(files.map((file) => [file, imports.filter(({ from }) => from === file).map(({ to }) => to)]));
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): string | undefined => {
      if (path.includes(file)) return [...path.slice(path.indexOf(file)), file].join(" → ");
      if (done.has(file)) return undefined;
      for (const next of edges.get(file) ?? []) {
        const cycle = edges.has(next) ? visit(next, [...path, file]) : undefined;
        if (cycle) return cycle;
      }
      done.add(file);
      return undefined;
    };
    let cycle: string | undefined;
    for (const file of files) cycle ??= visit(file, []);
    expect(cycle).toBeUndefined();
  });
});

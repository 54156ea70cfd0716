/** What the schema cannot say: keys that depend on each other and on what the command is about to do. */
import { parseDuration } from "./leaf.ts";
import type { Origin, Problem, RawMap } from "./raw.ts";
import { originAt, rawAt } from "./raw.ts";
import { tableProblems } from "./table_rules.ts";

/** What a command cannot do without. */
export interface Needs {
  readonly contour?: boolean;
  readonly database?: boolean;
  readonly broker?: boolean;
  /** The command runs roles and serves the API. */
  readonly run?: boolean;
}

/** The configuration as texts, before or after the schema has refused parts of it. */
class Facts {
  readonly root: RawMap;
  constructor(root: RawMap) {
    this.root = root;
  }
  text(path: string): string | null {
    const node = rawAt(this.root, path.split("."));
    return node?.kind === "text" ? node.text : null;
  }
  list(path: string): readonly string[] {
    const node = rawAt(this.root, path.split("."));
    if (node?.kind === "text") return node.text.split(",").map((item) => item.trim());
    return node?.kind === "list" ? node.items.map((item) => (item.kind === "text" ? item.text : "")) : [];
  }
  has(path: string): boolean {
    return rawAt(this.root, path.split(".")) !== undefined;
  }
  origin(path: string): Origin | null {
    const steps = path.split(/[.[\]]+/).filter((step) => step !== "");
    return originAt(
      this.root,
      steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step)),
    );
  }
}

type Rule = (facts: Facts, needs: Needs) => readonly { readonly path: string; readonly message: string }[];

const RULES: readonly Rule[] = [
  needed,
  brokerAddress,
  contours,
  api,
  natsCredentials,
  tables,
  kafkaCopies,
  tlsPairs,
  stampColumns,
  lagLevels,
  direct,
];

export function ruleProblems(root: RawMap, needs: Needs): Problem[] {
  const facts = new Facts(root);
  return RULES.flatMap((rule) => rule(facts, needs)).map(({ path, message }) => ({
    origin: facts.origin(path),
    path,
    message,
  }));
}

function needed(facts: Facts, needs: Needs) {
  const problems = [];
  if (needs.contour && !facts.has("service.contour")) {
    problems.push({
      path: "service.contour",
      message: "is missing, expected the name of this site (SERVICE_CONTOUR, --contour)",
    });
  }
  const database = ["url", "host", "name", "user"].some((part) => facts.has(`database.${part}`));
  if (needs.database && !database) {
    problems.push({
      path: "database.url",
      message: "is missing, expected postgres://user@host:port/name (DATABASE_URL), or host, port, name, user",
    });
  }
  if (needs.broker && !facts.has("broker") && !facts.has("target")) {
    problems.push({ path: "broker", message: "is missing, expected kafka, nats or memory (BROKER, --broker)" });
  }
  return problems;
}

function brokerAddress(facts: Facts, needs: Needs) {
  if (!needs.broker) return [];
  const kind = facts.text("broker");
  if (kind === "kafka" && facts.list("kafka.brokers").length === 0) {
    return [{ path: "kafka.brokers", message: "is missing, expected a list of addresses host:port (KAFKA_BROKERS)" }];
  }
  if (kind === "nats" && facts.list("nats.servers").length === 0) {
    return [
      { path: "nats.servers", message: "is missing, expected a list of addresses nats://host:port (NATS_SERVERS)" },
    ];
  }
  return [];
}

function contours(facts: Facts, needs: Needs) {
  const problems = [];
  const from = facts.list("consumer.from");
  const own = facts.text("service.contour");
  if (needs.run && facts.list("role").includes("consumer") && from.length === 0 && !facts.has("target")) {
    problems.push({
      path: "consumer.from",
      message: "is missing, expected the contours whose changes are accepted (CONSUMER_FROM)",
    });
  }
  const polled = rawAt(facts.root, ["non_critical_tables"]);
  if (needs.run && facts.list("role").includes("sync") && (polled?.kind !== "list" || polled.items.length === 0)) {
    problems.push({ path: "non_critical_tables", message: "is missing, expected the tables that role sync polls" });
  }
  if (own !== null && from.includes(own)) {
    problems.push({ path: "consumer.from", message: `names "${own}", this contour itself, expected other contours` });
  }
  return problems;
}

/** True for addresses only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function api(facts: Facts, needs: Needs) {
  const host = facts.text("api.host");
  if (!needs.run || host === null || isLoopback(host) || facts.has("api.token")) return [];
  return [
    {
      path: "api.token",
      message: `is missing, expected a token because api.host "${host}" can be reached from outside (API_TOKEN)`,
    },
  ];
}

function natsCredentials(facts: Facts) {
  const ways = ["user", "token", "nkey", "credentials_file"].filter((key) => facts.has(`nats.${key}`));
  if (ways.length < 2) return [];
  return [
    {
      path: `nats.${ways[1]}`,
      message: `stands beside ${ways[0]}, expected one of user, token, nkey, credentials_file`,
    },
  ];
}

function tables(facts: Facts) {
  return tableProblems(facts.root);
}

function kafkaCopies(facts: Facts) {
  const copies = Number(facts.text("kafka.topic.replication_factor") ?? Number.NaN);
  const inSync = Number(facts.text("kafka.topic.min_insync_replicas") ?? Number.NaN);
  if (!(inSync > copies)) return [];
  const message = `found "${inSync}", expected at most replication_factor, which is ${copies}`;
  return [{ path: "kafka.topic.min_insync_replicas", message }];
}

function tlsPairs(facts: Facts) {
  return [
    ["kafka.ssl.cert", "kafka.ssl.key"],
    ["nats.tls.cert", "nats.tls.key"],
    ["database.sslcert", "database.sslkey"],
    ["target.sslcert", "target.sslkey"],
  ].flatMap(([cert = "", key = ""]) => {
    if (facts.has(cert) === facts.has(key)) return [];
    const [missing, other] = facts.has(cert) ? [key, cert] : [cert, key];
    return [{ path: missing, message: `is missing, expected it beside ${other}` }];
  });
}

function stampColumns(facts: Facts) {
  const names = ["version", "updated_at", "updated_by"].map((key) => facts.text(`database.columns.${key}`) ?? key);
  return new Set(names).size === 3
    ? []
    : [{ path: "database.columns", message: `names one column twice: ${names.join(", ")}` }];
}

function lagLevels(facts: Facts) {
  const warning = facts.text("alerts.lag_warning");
  const critical = facts.text("alerts.lag_critical");
  if (warning === null || critical === null) return [];
  const [low, high] = [parseDuration(warning), parseDuration(critical)];
  if (low === null || high === null || low <= high) return [];
  return [
    { path: "alerts.lag_critical", message: `found "${critical}", expected at least lag_warning, which is ${warning}` },
  ];
}

/** A target database: one process, both roles, no broker (docs/direct_mode.md). */
function direct(facts: Facts) {
  if (!facts.has("target")) return [];
  const problems = [];
  if (!["url", "host", "name", "user"].some((part) => facts.has(`target.${part}`))) {
    problems.push({
      path: "target.url",
      message: "is missing, expected postgres://user@host:port/name (TARGET_URL), or host, port, name, user",
    });
  }
  const broker = facts.text("broker");
  if (broker === "kafka" || broker === "nats") {
    const message = `found "${broker}" beside target, expected none: with a target database changes are applied straight to it; leave out broker (direct mode) or target (through ${broker})`;
    problems.push({ path: "broker", message });
  }
  const roles = facts.list("role");
  if (roles.length > 0 && !roles.includes("all") && !["publisher", "consumer"].every((one) => roles.includes(one))) {
    const message = `found "${roles.join(", ")}" beside target, expected all: in direct mode one process reads the source and writes the target, no other could take over in between`;
    problems.push({ path: "role", message });
  }
  if (facts.has("consumer.from")) {
    const message = "stands beside target, whose one source is service.contour: leave it out";
    problems.push({ path: "consumer.from", message });
  }
  const own = facts.text("service.contour");
  if (own !== null && facts.text("target.contour") === own) {
    const message = `names "${own}", as service.contour does, expected a name of its own`;
    problems.push({ path: "target.contour", message });
  }
  return problems;
}

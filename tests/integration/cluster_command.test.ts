/** `bun run cluster nats | kafka`, as a person runs it. */
import { afterEach, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { createKafkaBroker } from "../../adapters/kafka/broker.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ROOT } from "../../tools/cache.mjs";
import { describeWith } from "../support/needs.ts";
import { until } from "../support/until.ts";
import { messages, natsBroker, never, newChannel, Reader, sendAll } from "./nats_support.ts";

class Run {
  readonly child: ChildProcess;
  text = "";
  readonly exited: Promise<number | null>;

  constructor(args: readonly string[], temporary: string) {
    this.child = spawn(process.execPath, [join(ROOT, "tools/cluster.ts"), ...args], {
      env: { ...process.env, TMPDIR: temporary },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on("data", (data) => (this.text += data));
    this.exited = new Promise((resolve) => this.child.on("close", resolve));
  }

  async ready(): Promise<void> {
    await until(
      "it is ready",
      () => this.text.includes("Ready.") || this.child.exitCode !== null || this.text,
      120_000,
    );
    expect(this.text).toContain("Ready.");
  }

  /** The lines for a replicator's configuration, a text each. */
  configurations(): string[] {
    const blocks = this.text.split("\n\n").filter((block) => block.startsWith("# ") && block.includes("broker:"));
    for (const block of blocks) expect(parseAllDocuments(block).flatMap(({ errors }) => errors)).toEqual([]);
    return blocks;
  }
}

describeWith(["nats", "kafka"], "bun run cluster", () => {
  const runs: Run[] = [];
  const folders: string[] = [];
  const listeners: Server[] = [];
  afterEach(async () => {
    for (const run of runs.splice(0)) {
      run.child.kill("SIGKILL");
      await run.exited;
    }
    for (const listener of listeners.splice(0)) await new Promise((resolve) => listener.close(resolve));
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });
  function folder(): string {
    const made = mkdtempSync(join(tmpdir(), "cluster-test-"));
    folders.push(made);
    return made;
  }
  function start(args: readonly string[], temporary = folder()): Run {
    const run = new Run(args, temporary);
    runs.push(run);
    return run;
  }
  /** Between the ports of the other tests' servers and those of outgoing connections. */
  const somePorts = () => String(30_000 + Math.floor(Math.random() * 60) * 45);
  const configured = (text: string) =>
    loadConfig({ file: "cluster.yaml", environment: {}, readFile: () => text }).config;

  test("nats: its configuration lines carry changes between the clusters; a server that dies comes back; Ctrl+C leaves nothing", async () => {
    const temporary = folder();
    const run = start(["nats", "--port-base", somePorts(), "--password", "123456"], temporary);
    await run.ready();
    const [a, b] = run.configurations().map((text) => configured(text).nats);
    if (!a || !b) throw new Error(`Expected two configurations in ${run.text}`);
    expect(a).toMatchObject({ user: "replication", password: "123456", replicas: 3 });
    const channel = newChannel();
    const [sender, receiver] = [natsBroker(a), natsBroker(b)];
    await sender.ensureChannel(channel, never);
    const reader = new Reader(receiver, channel);
    await sendAll(sender, channel, messages(channel, 1, 10));
    await reader.reached(10);
    const codes = (await receiver.check([channel], never)).map(({ code }) => code);
    expect(codes).toContain("broker.remote_stream");
    expect(codes).not.toContain("broker.mirror_replicas");
    for (const path of ["connz", "gatewayz", "jsz"]) {
      const address = new RegExp(`curl (http\\S+/${path})`).exec(run.text)?.[1] ?? "";
      expect((await fetch(address)).status).toBe(200);
    }
    await reader.stop();
    await sender.close();
    await receiver.close();

    const children = processesOf(run.child.pid ?? 0);
    expect(children).toHaveLength(6);
    process.kill(children[0] ?? 0, "SIGKILL");
    await until("it is back", () => /nats-[ab]-\d is back/.test(run.text) || run.text, 60_000);
    run.child.kill("SIGINT");
    expect(await run.exited).toBe(0);
    expect(readdirSync(temporary)).toEqual([]);
    expect(children.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
  }, 180_000);

  test("Ctrl+C while it starts leaves nothing either", async () => {
    const temporary = folder();
    const run = start(["nats", "--port-base", somePorts()], temporary);
    await until("its servers start", () => processesOf(run.child.pid ?? 0).length === 6);
    const children = processesOf(run.child.pid ?? 0);
    run.child.kill("SIGINT");
    expect(await run.exited).toBe(0);
    expect(run.text).not.toContain("Ready.");
    expect(readdirSync(temporary)).toEqual([]);
    expect(children.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
  }, 60_000);

  test("kafka: three nodes; with --data a second start finds the topics of the first", async () => {
    const data = join(folder(), "kept");
    const base = somePorts();
    const channel = newChannel();
    for (const round of [1, 2]) {
      const run = start(["kafka", "--port-base", base, "--data", data]);
      await run.ready();
      const { brokers, topic } = configured(run.configurations()[0] ?? "").kafka;
      expect(brokers).toHaveLength(3);
      const broker = createKafkaBroker({ brokers, topic: { retentionMs: topic.retention } });
      if (round === 1) await broker.ensureChannel(channel, never);
      const codes = (await broker.check([channel], never)).map(({ code }) => code);
      expect(codes).not.toContain("broker.topic_missing");
      expect(codes).not.toContain("broker.replication_factor");
      await broker.close();
      run.child.kill("SIGTERM");
      expect(await run.exited).toBe(0);
    }
    expect(existsSync(join(data, "kafka-1", "data"))).toBe(true);
  }, 240_000);

  test("a port that is taken is named with who wants it, and nothing is started", async () => {
    const listener = createServer();
    listeners.push(listener);
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const address = listener.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const temporary = folder();
    const run = start(["nats", "--port-base", String(port - 13)], temporary);
    expect(await run.exited).toBe(3);
    expect(run.text).toContain(`${port}, wanted by nats-b-1 (monitor)`);
    expect(run.text).toContain("--port-base");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("a wrong word or number ends with 2 and says what is expected", async () => {
    for (const [args, said] of [
      [["rabbit"], 'Expected nats or kafka, found "rabbit"'],
      [["nats", "--port-base", "80"], "from 1024 to 65500"],
      [["nats", "--porto", "1"], "--porto"],
    ] as const) {
      const run = start(args);
      expect(await run.exited).toBe(2);
      expect(run.text).toContain(said);
    }
  });
});

/** Children of a process (Linux). */
function processesOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return children.trim().split(" ").filter(Boolean).map(Number);
}

/** Loaded before every test file (bunfig.toml): `bun test` runs no exit handler, so the servers are ended here. */
import { afterAll } from "bun:test";
import { endAllServers } from "../servers/process.ts";

afterAll(endAllServers, 60_000);

/** Where a database is and how to speak to it: URL or parts, with libpq's meaning of sslmode. */
import { ReplicatorError } from "../../src/core/errors.ts";

export type SslMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

export interface SslOptions {
  /** libpq's sslmode; default `prefer`. Only verify-ca and verify-full verify the server; `require` with a ca does as verify-ca. */
  readonly mode?: SslMode | undefined;
  /** PEM text, or the path of a PEM file (read at each connect, so that a renewed certificate is taken up). */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** A `url`, parts, or both; parts win. */
export interface AddressOptions {
  readonly url?: string | undefined;
  /** A host name, an address, or a directory of a Unix socket (begins with "/"). */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly database?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly ssl?: SslOptions | undefined;
}

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
  readonly ssl: Required<Pick<SslOptions, "mode">> & Omit<SslOptions, "mode">;
  /** For logs and errors: `postgres://user@host:port/database`, never a password. */
  readonly label: string;
}

const MODES: readonly string[] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/** @throws ReplicatorError `config.bad_database_url` */
export function resolveAddress(options: AddressOptions): Address {
  const url = options.url === undefined ? null : parseUrl(options.url);
  const query = url?.searchParams;
  const host = options.host ?? query?.get("host") ?? (decodeURIComponent(url?.hostname ?? "") || "localhost");
  const user = options.user ?? (decodeURIComponent(url?.username ?? "") || "postgres");
  const port = options.port ?? Number(url?.port || query?.get("port") || 5432);
  const database = options.database ?? (decodeURIComponent(url?.pathname.slice(1) ?? "") || user);
  const mode = options.ssl?.mode ?? query?.get("sslmode") ?? "prefer";
  if (!isMode(mode)) throw badUrl(`has sslmode "${mode}", expected one of ${MODES.join(", ")}`);
  return {
    // A bracketed IPv6 address of a URL is an address without brackets to the socket.
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port,
    database,
    user,
    password: options.password ?? decodeURIComponent(url?.password ?? ""),
    ssl: {
      mode,
      ca: options.ssl?.ca ?? query?.get("sslrootcert") ?? undefined,
      cert: options.ssl?.cert ?? query?.get("sslcert") ?? undefined,
      key: options.ssl?.key ?? query?.get("sslkey") ?? undefined,
    },
    label: `postgres://${user}@${host}:${port}/${database}`,
  };
}

function isMode(mode: string): mode is SslMode {
  return MODES.includes(mode);
}

function parseUrl(text: string): URL {
  // libpq allows an empty host (`postgres://user@/name?host=/run/postgresql`), a URL does not.
  const whole = text.replace(/^(postgres(?:ql)?:\/\/(?:[^/@]*@)?)(?=[/?]|$)/, "$1localhost");
  const url = URL.canParse(whole) ? new URL(whole) : null;
  if (!url || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw badUrl("is not of the form postgres://user@host:port/name");
  }
  return url;
}

function badUrl(what: string): ReplicatorError {
  return new ReplicatorError({
    code: "config.bad_database_url",
    // The URL itself is not quoted: it may hold a password.
    message: `The database url ${what}`,
    retry: "never",
    fault: "input",
    remedy: "Write database.url as postgres://user@host:port/name?sslmode=verify-full",
  });
}

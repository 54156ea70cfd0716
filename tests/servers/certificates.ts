/** A certificate authority of the tests, made with the openssl program. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scratch } from "./scratch.ts";

/** PEM texts, and the files that hold them. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export interface Authority extends Certificate {
  /** Of the authority itself: what the other side is given to trust. */
  readonly ca: string;
  readonly caFile: string;
  /** A certificate this authority signs, valid for `hosts`, with the common name `name`. */
  issue(name: string, hosts?: readonly string[]): Certificate;
}

const LOCAL = ["localhost", "127.0.0.1"] as const;

/** Makes a new authority. Two of them do not trust each other's certificates. */
export function makeAuthority(name = "test authority"): Authority {
  const folder = scratch("certificates");
  const own = files(folder, "ca");
  openssl([
    "req",
    "-x509",
    "-new",
    "-nodes",
    ...newKey(own.keyFile),
    "-subj",
    `/CN=${name}`,
    "-days",
    "30",
    "-out",
    own.certFile,
  ]);
  const authority = read(own);
  let serial = 0;
  return {
    ...authority,
    ca: authority.cert,
    caFile: own.certFile,
    issue(commonName, hosts = LOCAL) {
      const made = files(folder, `issued-${++serial}`);
      const request = join(folder, `issued-${serial}.csr`);
      const extensions = join(folder, `issued-${serial}.ext`);
      const names = hosts.map((host) => (/^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`)).join();
      writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
      openssl(["req", "-new", "-nodes", ...newKey(made.keyFile), "-subj", `/CN=${commonName}`, "-out", request]);
      const signer = ["-CA", own.certFile, "-CAkey", own.keyFile, "-set_serial", String(Date.now() * 1000 + serial)];
      openssl([
        "x509",
        "-req",
        "-in",
        request,
        ...signer,
        "-days",
        "30",
        "-extfile",
        extensions,
        "-out",
        made.certFile,
      ]);
      return read(made);
    },
  };
}

/** One authority with a server's and a client's certificate, as PEM texts. `cert` and `key` are the server's. */
export interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly client: { readonly cert: string; readonly key: string };
}

/** A new authority each time, so that the certificates of two calls do not trust each other. */
export async function makeCertificates(): Promise<Certificates> {
  const authority = makeAuthority();
  const { cert, key } = authority.issue("localhost");
  return { ca: authority.ca, cert, key, client: authority.issue("client") };
}

interface Files {
  readonly certFile: string;
  readonly keyFile: string;
}

function files(folder: string, name: string): Files {
  return { certFile: join(folder, `${name}.crt`), keyFile: join(folder, `${name}.key`) };
}

function read(made: Files): Certificate {
  return { ...made, cert: readFileSync(made.certFile, "utf8"), key: readFileSync(made.keyFile, "utf8") };
}

/** Elliptic curve: RSA keys take a second each. */
function newKey(file: string): string[] {
  return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", file];
}

function openssl(args: readonly string[]): void {
  const done = spawnSync("openssl", [...args], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`openssl ${args[0]} failed: ${done.error?.message ?? done.stderr}`);
}

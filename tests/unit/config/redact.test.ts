import { describe, expect, test } from "bun:test";
import { redactor, redactUrls } from "../../../src/config/redact.ts";

describe("redaction", () => {
  test("passwords inside URLs go, the rest stays", () => {
    expect(redactUrls("postgres://u:p@ss/w@h:1/d?sslmode=require")).toBe("postgres://u:***@h:1/d?sslmode=require");
    expect(redactUrls("nats://a:x@h1,nats://b:y@h2")).toBe("nats://a:***@h1,nats://b:***@h2");
    expect(redactUrls("postgres://h/d?password=x&y=1")).toBe("postgres://h/d?password=***&y=1");
    expect(redactUrls("http://127.0.0.1:8080/status and a@b")).toBe("http://127.0.0.1:8080/status and a@b");
  });
  test("a private key written out goes, a certificate stays", () => {
    const key = "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----";
    expect(redactUrls(`a ${key} b`)).toBe("a *** b");
    expect(redactUrls("-----BEGIN CERTIFICATE-----")).toBe("-----BEGIN CERTIFICATE-----");
  });
  test("a known secret goes wherever it stands, also escaped", () => {
    const redact = redactor(['tok"en1', "p@ss"]);
    expect(redact('{"m":"tok\\"en1"} p%40ss p@ss')).toBe('{"m":"***"} *** ***');
  });
});

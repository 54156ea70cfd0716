/**
 * The page of `GET /`. It holds no data: its script asks /status and /ready, with the token the operator types where one is
 * set. So the page may be shown before the token is known, and it is the same for everybody.
 */
import { createHash } from "node:crypto";
import file from "./dashboard.html" with { type: "text" };

export interface Dashboard {
  readonly html: string;
  /** Headers it is served with. */
  readonly headers: Readonly<Record<string, string>>;
}

export function createDashboard(): Dashboard {
  const html = textOf(file);
  // Nothing from elsewhere, nothing inline but what is named by its hash, and text never becomes markup.
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(html, "script")}`,
    `style-src ${hashOf(html, "style")}`,
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  return {
    html,
    headers: {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": policy,
      "Referrer-Policy": "no-referrer",
      "X-Frame-Options": "DENY",
    },
  };
}

/** The import is text, whatever the runtime's types say of files that end so. */
function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  throw new Error("dashboard.html is not imported as text");
}

/** Of the one element of that name, as Content-Security-Policy writes it. */
function hashOf(html: string, element: "script" | "style"): string {
  const [, text] = new RegExp(`<${element}>([\\s\\S]*?)</${element}>`).exec(html) ?? [];
  if (text === undefined) throw new Error(`dashboard.html has no ${element} element`);
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** Takes secrets out of whatever is shown: logs, messages, `config show`. */

export const HIDDEN = "***";

/** Hides passwords inside URLs, and private keys written out as PEM. */
export function redactUrls(text: string): string {
  return text
    .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, HIDDEN)
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s:@/,"']*):[^\s,"']*@/gi, `$1:${HIDDEN}@`)
    .replace(/([?&](?:password|sslpassword|token)=)[^&\s,"']+/gi, `$1${HIDDEN}`);
}

/** Hides passwords inside URLs and these very texts, also as JSON would escape them. */
export function redactor(secrets: readonly string[]): (text: string) => string {
  // Shorter ones would hide half of every word; a secret of three characters is none.
  const known = secrets.filter((secret) => secret.length > 3);
  const forms = new Set(
    known.flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)]),
  );
  const longestFirst = [...forms].sort((a, b) => b.length - a.length);
  return (text) => redactUrls(longestFirst.reduce((shown, secret) => shown.replaceAll(secret, HIDDEN), text));
}

/** The passwords inside a URL, as written and decoded. */
export function urlSecrets(url: string): string[] {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (!parsed) return [];
  return [parsed.password, parsed.searchParams.get("password") ?? ""]
    .filter((secret) => secret !== "")
    .flatMap((secret) => [secret, decoded(secret)]);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not percent-encoded after all: as written it is a secret already.
    return text;
  }
}

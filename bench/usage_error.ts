/** The user's mistake: told without a stack, exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

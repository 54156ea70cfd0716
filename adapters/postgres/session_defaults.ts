/** What every session of ours sets, whatever the database or the role says. Names and values as SET takes them. */
export function sessionDefaults(queryTimeoutMs: number): Record<string, string> {
  return {
    // Text must not depend on what a database or role has set (architecture §7.2).
    DateStyle: "ISO, MDY",
    IntervalStyle: "postgres",
    TimeZone: "UTC",
    extra_float_digits: "1",
    bytea_output: "hex",
    standard_conforming_strings: "on",
    // As native logical replication: nothing of ours depends on a search path, nobody can slip in a name.
    search_path: "",
    default_transaction_isolation: "read committed",
    default_transaction_read_only: "off",
    statement_timeout: String(queryTimeoutMs),
    lock_timeout: "0",
    // A zombie behind a silent network must not keep its locks (I8).
    idle_in_transaction_session_timeout: "60s",
    client_min_messages: "warning",
    jit: "off",
  };
}

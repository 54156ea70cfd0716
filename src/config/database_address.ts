/** Where the configuration says the database is, in the words of the postgres adapter. */
import type { Config } from "./config.ts";

export function databaseAddress({ database }: Pick<Config, "database">) {
  const { url, host, port, name, user, password, sslmode, sslrootcert, sslcert, sslkey } = database;
  return {
    url,
    host,
    port,
    database: name,
    user,
    password,
    ssl: { mode: sslmode, ca: sslrootcert, cert: sslcert, key: sslkey },
  };
}

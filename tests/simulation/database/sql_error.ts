/** What the model's PostgreSQL refuses, by SQLSTATE. */
export class SqlError extends Error {
  readonly state: "23503" | "23505" | "23514" | "40001" | "40P01" | "57014";

  constructor(state: SqlError["state"], message: string) {
    super(message);
    this.state = state;
  }
}

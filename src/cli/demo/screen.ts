/** The demo's live screen: redrawn in place on a terminal, a line now and then elsewhere. */

export interface ContourView {
  readonly contour: string;
  readonly users: number;
  readonly payments: number;
  /** Row changes the generator has made here. */
  readonly written: number;
  /** Changes this contour's replicator has published or applied. */
  readonly replicated: number;
  readonly unpublished: number;
  readonly lagSeconds: number;
  readonly parked: number;
}

export interface ScreenOptions {
  write(text: string): void;
  readonly terminal: boolean;
  readonly seconds: number;
}

/** Without a terminal a line every so many seconds. */
const LINE_EVERY_SECONDS = 5;
const BAR = 30;
/** Together below 80: a line that wraps would spoil the redrawing. */
const WIDTHS = [8, 8, 9, 9, 7, 11, 8, 8, 7];
const HEADINGS = ["contour", "users", "payments", "written", "per s", "replicated", "waiting", "lag s", "parked"];

export class Screen {
  readonly #options: ScreenOptions;
  #drawn = 0;
  #nextLine = 0;

  constructor(options: ScreenOptions) {
    this.#options = options;
  }

  draw(elapsed: number, views: readonly ContourView[]): void {
    const { write, terminal, seconds } = this.#options;
    const rates = views.map(({ written }) => (elapsed > 0 ? Math.round(written / elapsed) : 0));
    if (terminal) {
      const lines = this.#table(elapsed, views, rates);
      const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
      write(`${up}${lines.map((line) => `\x1b[2K${line}\n`).join("")}`);
      this.#drawn = lines.length;
    } else if (elapsed >= this.#nextLine || elapsed >= seconds) {
      this.#nextLine = elapsed + LINE_EVERY_SECONDS;
      const sites = views.map(
        (view, n) =>
          `${view.contour}: ${view.users} users, ${view.payments} payments, ${rates[n]} changes/s written, lag ${view.lagSeconds.toFixed(3)} s`,
      );
      write(`${elapsed.toFixed(0).padStart(4)} s  ${sites.join("  |  ")}\n`);
    }
  }

  #table(elapsed: number, views: readonly ContourView[], rates: readonly number[]): string[] {
    const done = Math.min(BAR, Math.round((elapsed / this.#options.seconds) * BAR));
    const row = (cells: readonly (string | number)[]) =>
      cells.map((cell, n) => String(cell).padStart(WIDTHS[n] ?? 0)).join("");
    return [
      row(HEADINGS),
      ...views.map((view, n) =>
        row([
          view.contour,
          view.users,
          view.payments,
          view.written,
          rates[n] ?? 0,
          view.replicated,
          view.unpublished,
          view.lagSeconds.toFixed(3),
          view.parked,
        ]),
      ),
      `  [${"█".repeat(done)}${"░".repeat(BAR - done)}] ${Math.min(elapsed, this.#options.seconds).toFixed(0)} of ${this.#options.seconds} s`,
    ];
  }
}

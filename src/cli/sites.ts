/** Which databases a command works on: one, or in direct mode the source and the target, each called by its name. */
import type { Config } from "../config/config.ts";
import { targetConfig } from "../config/target.ts";
import type { Admin } from "../core/admin.ts";
import { refuseSameDatabase } from "../direct/same_database.ts";
import { type Session, type SessionOptions, withSession } from "./session.ts";

export interface Site {
  /** Null where there is one database only. */
  readonly side: "source" | "target" | null;
  /** With this database as `database`, under its contour's name. */
  readonly config: Config;
  readonly admin: Admin;
}

type Work = (session: Session, sites: readonly Site[]) => Promise<number>;

/** Opens the database, or source and target in this order; closed afterwards. */
export function withSites(options: SessionOptions, work: Work): Promise<number> {
  return withSession({ ...options, quiet: true }, async (session) => {
    const { engine, config, logger } = session;
    const target = targetConfig(config);
    const site = (side: Site["side"], own: Config): Site => ({
      side,
      config: own,
      admin: engine.openAdmin(own, logger),
    });
    const sites = target ? [site("source", config), site("target", target)] : [site(null, config)];
    try {
      return await work(session, sites);
    } finally {
      await Promise.all(sites.map(({ admin }) => admin.close()));
    }
  });
}

/** As withSites, for commands that change them: two addresses of one database are refused first. @throws `direct.same_database` */
export function withTwoSites(options: SessionOptions, work: Work): Promise<number> {
  return withSites(options, async (session, sites) => {
    const [here, there] = sites.map(({ admin }) => admin);
    if (here && there) {
      const [one, other] = await Promise.all([here.identity(session.signal), there.identity(session.signal)]);
      refuseSameDatabase({ label: here.label, ...one }, { label: there.label, ...other });
    }
    return await work(session, sites);
  });
}

/** The database where changes are applied: the target, which is then named to the person, or the only one. */
export function withApplying(
  options: SessionOptions,
  work: (session: Session, admin: Admin) => Promise<number>,
): Promise<number> {
  return withSession({ ...options, quiet: true }, async (session) => {
    const { engine, config, logger, terminal } = session;
    const target = targetConfig(config);
    const admin = engine.openAdmin(target ?? config, logger);
    if (target) terminal.say(`At the target ${admin.label}`);
    try {
      return await work(session, admin);
    } finally {
      await admin.close();
    }
  });
}

/** `source: ` before a line about one of two. */
export function prefix({ side }: Pick<Site, "side">): string {
  return side === null ? "" : `${side}: `;
}

/** A TCP proxy that can swallow what passes through it, as a network does that drops packets without a word. */
import net from "node:net";

export interface SilentProxy {
  readonly port: number;
  /** The address with the proxy's host and port in place of the server's. */
  through(url: string): string;
  /** From now on nothing passes in either direction, and nobody is told: connections stay open, new ones are taken and not answered. */
  swallow(): void;
  /** New connections pass again; those that were there stay silent for ever. */
  restore(): void;
  close(): Promise<void>;
}

export async function silentProxy(target: { readonly host: string; readonly port: number }): Promise<SilentProxy> {
  const sockets = new Set<net.Socket>();
  let swallowing = false;
  /** Each pair of sockets looks here before it passes a chunk on. */
  let silenced = new Set<{ silent: boolean }>();
  const server = net.createServer((near) => {
    const pair = { silent: swallowing };
    silenced.add(pair);
    const far = net.connect(target.port, target.host);
    const pass = (from: net.Socket, to: net.Socket) => {
      sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (chunk: Buffer) => {
        if (!pair.silent) to.write(chunk);
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        sockets.delete(from);
        // The end of one side does not reach the other through a silent network.
        if (pair.silent) return;
        silenced.delete(pair);
        to.destroy();
      });
    };
    pass(near, far);
    pass(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  return {
    port,
    through(url) {
      const changed = new URL(url);
      changed.hostname = "127.0.0.1";
      changed.port = String(port);
      return changed.href;
    },
    swallow() {
      swallowing = true;
      for (const pair of silenced) pair.silent = true;
    },
    restore() {
      swallowing = false;
      silenced = new Set();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

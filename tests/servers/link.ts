/**
 * A TCP proxy that stands for the line between two sites. Cut, it passes nothing and tells nobody, as a line that drops
 * packets; healed, the connections that both ends still hold go on where they stopped, as TCP's resent packets do.
 */
import net from "node:net";

export interface Link {
  readonly port: number;
  /** Nothing passes in either direction; new connections are taken and not answered. */
  cut(): void;
  heal(): void;
  close(): Promise<void>;
}

/** @param target port of a server on this host; it need not listen yet */
export async function startLink(target: number): Promise<Link> {
  const sockets = new Set<net.Socket>();
  /** Connections that were taken while the line was cut. */
  const waiting = new Set<() => void>();
  let isCut = false;
  const server = net.createServer((near) => {
    keep(near);
    const connect = () => {
      waiting.delete(connect);
      if (near.destroyed) return;
      const far = keep(net.connect(target, "127.0.0.1"));
      pass(near, far);
      pass(far, near);
      if (!isCut) near.resume();
    };
    near.pause();
    if (isCut) waiting.add(connect);
    else connect();
  });
  const keep = (socket: net.Socket): net.Socket => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    return socket;
  };
  const pass = (from: net.Socket, to: net.Socket) => {
    from.on("data", (chunk: Buffer) => {
      if (!to.write(chunk)) from.pause();
    });
    to.on("drain", () => {
      if (!isCut) from.resume();
    });
    // Paused, a socket does not say that its other end has gone: that, too, is known when the line is back.
    from.on("close", () => to.destroy());
  };
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : 0,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.pause();
    },
    heal() {
      isCut = false;
      for (const socket of sockets) socket.resume();
      for (const connect of [...waiting]) connect();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

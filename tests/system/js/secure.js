// SPDX-License-Identifier: Apache-2.0
// The steps of logins, rights and TLS that both client libraries take. Argument: JSON that secure_clients_test.py makes.
//
// The libraries differ in how they report errors: each program passes two functions.
//   isRefused(error)              a login that was refused
//   deniedOf(event)               "publish subject", "subscription subject [queue]" or null, of an event of status()

import assert from "node:assert/strict";

const decoder = new TextDecoder();

async function roundTrip(nc) {
  const sub = nc.subscribe("echo.js", { callback: (_, m) => m.respond(m.data) });
  const size = nc.info.max_payload;
  for (const n of [0, 1, 1000, size]) {
    const answer = await nc.request("echo.js", new Uint8Array(n).fill(7), { timeout: 10000 });
    assert.equal(answer.data.length, n);
  }
  sub.unsubscribe();
  await nc.flush();
}

export async function run(lib, isRefused, deniedOf) {
  const world = JSON.parse(process.argv[2]);
  const open = (server, options) =>
    lib.connect({ servers: `127.0.0.1:${world.ports[server]}`, reconnect: false, timeout: 10000, ...options });
  const works = async (server, options) => {
    const nc = await open(server, options);
    await roundTrip(nc);
    await nc.close();
  };
  const refused = (server, options) => assert.rejects(open(server, options), isRefused);
  const nkey = (seed) => lib.nkeyAuthenticator(new TextEncoder().encode(seed));

  await works("users", { user: "ann", pass: "pa" });
  await refused("users", { user: "ann", pass: "no" });
  await refused("users", { user: "nobody", pass: "pa" });
  await refused("users", {});
  await works("users", { authenticator: nkey(world.seed) });
  await refused("users", { authenticator: nkey(world.strangerSeed) });
  await works("users", { user: "slow", pass: "slow" });
  await works("token", { token: "t0k3n" });
  await refused("token", { token: "no" });
  await permissions(await open("users", { user: "few", pass: "p" }), deniedOf);
  await accounts(await open("users", { user: "ann", pass: "pa" }), await open("users", { user: "bob", pass: "pb" }));

  const tls = { caFile: world.ca };
  const client = { ...tls, certFile: world.cert, keyFile: world.key };
  await works("tls", { user: "ann", pass: "pa", tls });
  await refused("tls", { user: "ann", pass: "no", tls });
  await assert.rejects(open("tls", { user: "ann", pass: "pa", tls: { caFile: world.strangersCa } }));
  await works("mutual", { authenticator: nkey(world.seed), tls: client });
  await assert.rejects(open("mutual", { authenticator: nkey(world.seed), tls }));
  await works("mapped", { tls: client });
  await refused("mapped", { tls: { ...client, certFile: world.unmappedCert } });
  await permissions(await open("mapped", { tls: { ...client, certFile: world.fewCert } }), deniedOf);
  console.log("ok");
}

// The user may publish ok.>, its inbox, and subscribe to ok.> and ok.queue as g only.
async function permissions(nc, deniedOf) {
  const denied = [];
  const wanted = ["publish no.publish", "subscription no.subscribe", "subscription ok.queue h"];
  const all = (async () => {
    for await (const event of nc.status()) {
      const text = deniedOf(event);
      if (text) denied.push(text);
      if (denied.length === wanted.length) return;
    }
  })();
  const errors = [];
  nc.publish("no.publish", "x");
  nc.subscribe("no.subscribe", { callback: (error) => error && errors.push(error) });
  nc.subscribe("ok.queue", { queue: "h", callback: (error) => error && errors.push(error) });
  const sub = nc.subscribe("ok.queue", { queue: "g", max: 1 });
  await all;
  assert.deepEqual(denied, wanted);
  assert.equal(errors.length, 2);
  nc.publish("ok.queue", "still here");
  for await (const m of sub) assert.equal(decoder.decode(m.data), "still here");
  await nc.close();
}

async function accounts(a, b) {
  const received = [];
  for (const [name, nc] of [["a", a], ["b", b]]) {
    nc.subscribe("shared", { callback: (_, m) => received.push(name + decoder.decode(m.data)) });
    await nc.flush();
  }
  a.publish("shared", "1");
  b.publish("shared", "2");
  for (const nc of [a, b, a, b]) await nc.flush();
  assert.deepEqual(received.sort(), ["a1", "b2"]);
  await a.close();
  await b.close();
}

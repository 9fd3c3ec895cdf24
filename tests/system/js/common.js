// SPDX-License-Identifier: Apache-2.0
// The steps that both client libraries take. The test that runs a program restarts the server when it reads `restart`.
//
// `nats` 2.x and `@nats-io/transport-node` 3.x differ in names only; each program passes its library as `lib`.

import assert from "node:assert/strict";

const decoder = new TextDecoder();
const text = (m) => decoder.decode(m.data);

// The next n messages of a subscription.
async function take(subscription, n) {
  const messages = [];
  if (n === 0) return messages;
  for await (const m of subscription) {
    messages.push(m);
    if (messages.length === n) break;
  }
  return messages;
}

async function publishAndSubscribe(nc) {
  const sub = nc.subscribe("js.a.*", { max: 3 });
  nc.publish("js.a.1", "one");
  nc.publish("js.a.2", "two", { reply: "js.reply" });
  nc.publish("js.a.3");
  nc.publish("js.a.4", "over the maximum");
  const messages = await take(sub, 3);
  assert.deepEqual(messages.map((m) => [m.subject, text(m)]), [["js.a.1", "one"], ["js.a.2", "two"], ["js.a.3", ""]]);
  assert.equal(messages[1].reply, "js.reply");
  await nc.flush();
  assert.equal(sub.getReceived(), 3);
}

async function manyMessages(nc) {
  const sub = nc.subscribe("js.many");
  for (let i = 0; i < 10000; i++) nc.publish("js.many", String(i));
  const messages = await take(sub, 10000);
  messages.forEach((m, i) => assert.equal(text(m), String(i)));
}

async function largeMessage(nc) {
  const size = nc.info.max_payload;
  const sub = nc.subscribe("js.large", { max: 1 });
  nc.publish("js.large", new Uint8Array(size).fill(7));
  const [m] = await take(sub, 1);
  assert.equal(m.data.length, size);
  assert.ok(m.data.every((byte) => byte === 7));
}

async function requests(nc, responder) {
  const sub = responder.subscribe("js.double", { callback: (_, m) => m.respond(String(2 * Number(text(m)))) });
  await responder.flush();
  const answers = await Promise.all([1, 2, 3, 50].map((n) => nc.request("js.double", String(n), { timeout: 5000 })));
  assert.deepEqual(answers.map(text), ["2", "4", "6", "100"]);
  const old = await nc.request("js.double", "21", { timeout: 5000, noMux: true });
  assert.equal(text(old), "42");
  sub.unsubscribe();
  await responder.flush();
}

async function noResponders(nc, isNoResponders) {
  await assert.rejects(nc.request("js.nobody", "x", { timeout: 5000 }), isNoResponders);
  await assert.rejects(nc.request("js.nobody", "x", { timeout: 5000, noMux: true }), isNoResponders);
}

async function queueGroups(nc, other) {
  const subs = [[nc, "js.q"], [other, "js.q"], [other, "js.*"]].map(([c, subject]) => c.subscribe(subject, { queue: "g" }));
  const all = other.subscribe("js.q");
  await Promise.all([nc.flush(), other.flush()]);
  for (let i = 0; i < 300; i++) nc.publish("js.q", String(i));
  await take(all, 300);
  await nc.flush();
  await other.flush();
  const counts = subs.map((s) => s.getReceived());
  assert.equal(counts.reduce((a, b) => a + b), 300);
  counts.forEach((count) => assert.ok(count > 40, `spread ${counts}`));
  subs.concat(all).forEach((s) => s.unsubscribe());
}

async function headersTravel(nc, lib) {
  const sub = nc.subscribe("js.headers", { max: 2 });
  const h = lib.headers();
  h.set("Key", "value: with: colons");
  h.append("Many", "1");
  h.append("Many", "2");
  nc.publish("js.headers", "body", { headers: h });
  nc.publish("js.headers", "", { headers: h });
  for (const [i, m] of (await take(sub, 2)).entries()) {
    assert.equal(m.headers.get("Key"), "value: with: colons");
    assert.deepEqual(m.headers.values("Many"), ["1", "2"]);
    assert.equal(text(m), ["body", ""][i]);
  }
}

async function drain(nc) {
  const sub = nc.subscribe("js.drain");
  const received = (async () => {
    let count = 0;
    for await (const _ of sub) count++;
    return count;
  })();
  for (let i = 0; i < 500; i++) nc.publish("js.drain", "x");
  await sub.drain();
  nc.publish("js.drain", "after the drain");
  await nc.flush();
  assert.equal(await received, 500);
}

async function reconnect(nc) {
  const sub = nc.subscribe("js.again");
  const queue = nc.subscribe("js.again", { queue: "g" });
  await nc.flush();
  const reconnected = (async () => {
    for await (const s of nc.status()) if (s.type === "reconnect") return;
  })();
  console.log("restart");
  await reconnected;
  nc.publish("js.again", "after the restart");
  assert.equal(text((await take(sub, 1))[0]), "after the restart");
  assert.equal(text((await take(queue, 1))[0]), "after the restart");
}

export async function run(lib, isNoResponders) {
  const options = { servers: `127.0.0.1:${process.argv[2]}`, reconnectTimeWait: 50, maxReconnectAttempts: -1, name: "test" };
  const nc = await lib.connect(options);
  const other = await lib.connect(options);
  await publishAndSubscribe(nc);
  await manyMessages(nc);
  await largeMessage(nc);
  await requests(nc, other);
  await noResponders(nc, isNoResponders);
  await queueGroups(nc, other);
  await headersTravel(nc, lib);
  await drain(nc);
  assert.ok((await nc.rtt()) >= 0);
  await other.drain();
  assert.ok(other.isClosed());
  await reconnect(nc);
  await requests(nc, nc);
  await nc.drain();
  assert.equal(await nc.closed(), undefined);
  console.log("ok");
}

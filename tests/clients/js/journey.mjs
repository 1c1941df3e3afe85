// SPDX-License-Identifier: Apache-2.0
// Two people sign up, verify each other, talk encrypted and read their history on a new device: matrix-js-sdk with Rust crypto.
//
// node journey.mjs BASE_URL   prints one "ok NAME" line per step and exits 0, or the step that failed and exits 1.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { createHash, webcrypto } from "node:crypto";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/verification.js";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/CryptoEvent.js";

logger.setLevel("silent");
for (const level of ["log", "debug", "info", "warn", "trace"]) console[level] = () => {};
const say = (text) => process.stdout.write(text + "\n");
const BASE = process.argv[2];
const TIMEOUT = 30_000;
const PASSWORD = "correct horse battery staple";
const tag = Math.random().toString(36).slice(2, 8);

async function until(what, check, timeout = TIMEOUT) {
    const end = Date.now() + timeout;
    for (;;) {
        const got = await check();
        if (got) return got;
        if (Date.now() > end) throw new Error(`waited ${timeout} ms for: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

async function signUp(name) {
    const plain = sdk.createClient({ baseUrl: BASE });
    const session = await plain.registerRequest({
        username: `${name}-${tag}`,
        password: PASSWORD,
        auth: { type: "m.login.dummy" },
        initial_device_display_name: `${name}'s first device`,
    });
    return start(session);
}

async function signIn(userId) {
    const plain = sdk.createClient({ baseUrl: BASE });
    const session = await plain.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: userId },
        password: PASSWORD,
        initial_device_display_name: "second device",
    });
    return start(session);
}

async function start(session) {
    const kept = { key: null };
    const client = sdk.createClient({
        baseUrl: BASE,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
        timelineSupport: true,
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => {
                const id = Object.keys(keys)[0];
                return kept.key ? [id, kept.key] : null;
            },
            cacheSecretStorageKey: (_id, _info, key) => {
                kept.key = key;
            },
        },
    });
    client.kept = kept;
    await client.initRustCrypto({ useIndexedDB: false });
    client.getCrypto().setTrustCrossSignedDevices(true);
    await client.startClient({ initialSyncLimit: 50, threadSupport: true, lazyLoadMembers: true });
    await until("first sync", () => client.isInitialSyncComplete());
    return client;
}

const userInteractive = (client) => async (request) =>
    request({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: client.getUserId() },
        password: PASSWORD,
    });

async function setUpCrossSigning(client) {
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: userInteractive(client) });
    const recovery = await crypto.createRecoveryKeyFromPassphrase("a long recovery passphrase");
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => recovery,
        setupNewSecretStorage: true,
        setupNewKeyBackup: true,
    });
    assert.equal(await crypto.isCrossSigningReady(), true);
    await until("key backup is on", async () => (await crypto.getActiveSessionBackupVersion()) !== null);
    return recovery;
}

async function verifyEachOther(alice, bob, roomId) {
    const incoming = new Promise((resolve) => bob.once(CryptoEvent.VerificationRequestReceived, resolve));
    const mine = await alice.getCrypto().requestVerificationDM(bob.getUserId(), roomId);
    const theirs = await Promise.race([
        incoming,
        new Promise((_, no) => setTimeout(() => no(new Error("verification request never arrived")), TIMEOUT)),
    ]);
    await theirs.accept();
    await until("both ready", () => mine.phase === VerificationPhase.Ready);
    const verifierA = await mine.startVerification("m.sas.v1");
    const verifierB = await until("verifier of the other side", () => theirs.verifier);
    const emoji = [];
    for (const verifier of [verifierA, verifierB]) {
        verifier.on(VerifierEvent.ShowSas, (sas) => {
            emoji.push(JSON.stringify(sas.sas.emoji));
            if (emoji.length === 2) assert.equal(emoji[0], emoji[1]);
            void sas.confirm();
        });
    }
    await Promise.all([verifierA.verify(), verifierB.verify()]);
    await until("bob is verified for alice", async () =>
        (await alice.getCrypto().getUserVerificationStatus(bob.getUserId())).isCrossSigningVerified(),
    );
    await until("alice is verified for bob", async () =>
        (await bob.getCrypto().getUserVerificationStatus(alice.getUserId())).isCrossSigningVerified(),
    );
    assert.equal(emoji.length, 2);
}

function find(client, roomId, wanted) {
    const room = client.getRoom(roomId);
    if (!room) return undefined;
    const timelines = [room.getUnfilteredTimelineSet(), ...room.getThreads().map((t) => t.timelineSet)];
    return timelines
        .flatMap((set) => set.getTimelines().flatMap((timeline) => timeline.getEvents()))
        .find((event) => event.getId() === wanted);
}

async function reads(client, roomId, eventId, body) {
    const event = await until(`${client.getUserId()} sees ${eventId}`, () => find(client, roomId, eventId));
    await client.decryptEventIfNeeded(event);
    await until(`${client.getUserId()} decrypts ${eventId}`, () => event.getContent().body !== undefined && !event.isDecryptionFailure());
    if (body !== undefined) assert.equal(event.getContent().body, body);
    assert.equal(event.isEncrypted(), true);
    return event;
}

const send = async (client, roomId, content) => (await client.sendEvent(roomId, "m.room.message", content)).event_id;
const text = (body, extra = {}) => ({ msgtype: "m.text", body, ...extra });

async function encryptFile(plain) {
    const key = webcrypto.getRandomValues(new Uint8Array(32));
    const iv = new Uint8Array(16);
    webcrypto.getRandomValues(iv.subarray(0, 8));
    const cryptoKey = await webcrypto.subtle.importKey("raw", key, "AES-CTR", true, ["encrypt", "decrypt"]);
    const data = new Uint8Array(await webcrypto.subtle.encrypt({ name: "AES-CTR", counter: iv, length: 64 }, cryptoKey, plain));
    const b64 = (bytes) => Buffer.from(bytes).toString("base64").replace(/=+$/, "");
    const info = {
        v: "v2",
        key: { alg: "A256CTR", ext: true, k: Buffer.from(key).toString("base64url"), key_ops: ["encrypt", "decrypt"], kty: "oct" },
        iv: b64(iv),
        hashes: { sha256: b64(createHash("sha256").update(data).digest()) },
    };
    return { data, info };
}

async function decryptFile(data, info) {
    const hash = createHash("sha256").update(data).digest("base64").replace(/=+$/, "");
    assert.equal(hash, info.hashes.sha256);
    const key = await webcrypto.subtle.importKey("jwk", info.key, "AES-CTR", false, ["decrypt"]);
    const counter = Buffer.from(info.iv, "base64");
    return Buffer.from(await webcrypto.subtle.decrypt({ name: "AES-CTR", counter, length: 64 }, key, data));
}

async function main() {
    const step = (name) => say(`ok ${name}`);
    const alice = await signUp("alice");
    const bob = await signUp("bob");
    step("two people sign up");

    const recovery = await setUpCrossSigning(alice);
    await setUpCrossSigning(bob);
    step("cross-signing, secret storage and key backup are set up");

    const { room_id: roomId } = await alice.createRoom({
        preset: "trusted_private_chat",
        invite: [bob.getUserId()],
        is_direct: true,
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await until("bob is invited", () => bob.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.joinRoom(roomId);
    await until("bob has joined for alice", () => alice.getRoom(roomId)?.getMember(bob.getUserId())?.membership === "join");
    step("an encrypted room is made and joined");

    await verifyEachOther(alice, bob, roomId);
    step("they verify each other by emoji, cross-signed");

    const hello = await send(alice, roomId, text("Is the bicycle still there?"));
    await reads(bob, roomId, hello, "Is the bicycle still there?");
    const answer = await send(bob, roomId, text("Yes, it is."));
    await reads(alice, roomId, answer, "Yes, it is.");
    step("they talk both ways, encrypted");

    const edit = await send(alice, roomId, {
        ...text("* Is the red bicycle still there?"),
        "m.new_content": text("Is the red bicycle still there?"),
        "m.relates_to": { rel_type: "m.replace", event_id: hello },
    });
    await reads(bob, roomId, edit);
    await until("bob sees the edited text", () => find(bob, roomId, hello)?.getContent().body === "Is the red bicycle still there?");
    step("an edit replaces the text");

    const reaction = (
        await bob.sendEvent(roomId, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: hello, key: "👍" } })
    ).event_id;
    await until("alice sees the reaction", () =>
        alice.getRoom(roomId).relations.getChildEventsForEvent(hello, "m.annotation", "m.reaction")?.getRelations().length === 1,
    );
    step("a reaction arrives");

    const threaded = await send(bob, roomId, {
        ...text("We can talk about the price here."),
        "m.relates_to": { rel_type: "m.thread", event_id: hello, is_falling_back: true, "m.in_reply_to": { event_id: hello } },
    });
    await until("alice has the thread", () => alice.getRoom(roomId).getThread(hello)?.length === 1);
    await reads(alice, roomId, threaded, "We can talk about the price here.");
    step("a reply in a thread arrives");

    await bob.redactEvent(roomId, reaction, undefined, { reason: "mistake" });
    await until("the reaction is gone", () => {
        const left = alice.getRoom(roomId).relations.getChildEventsForEvent(hello, "m.annotation", "m.reaction");
        return !left || left.getRelations().length === 0;
    });
    const wrong = await send(alice, roomId, text("sent to the wrong person"));
    await reads(bob, roomId, wrong, "sent to the wrong person");
    await alice.redactEvent(roomId, wrong);
    await until("the message is redacted for bob", () => find(bob, roomId, wrong)?.isRedacted());
    step("redactions arrive");

    const photo = webcrypto.getRandomValues(new Uint8Array(60_000));
    const { data, info } = await encryptFile(photo);
    const { content_uri: uri } = await alice.uploadContent(Buffer.from(data), { type: "application/octet-stream", includeFilename: false });
    const attachment = await send(alice, roomId, { msgtype: "m.file", body: "photo.bin", file: { ...info, url: uri } });
    const got = await reads(bob, roomId, attachment, "photo.bin");
    const address = bob.mxcUrlToHttp(got.getContent().file.url, undefined, undefined, undefined, false, true, true);
    const response = await fetch(address, { headers: { Authorization: `Bearer ${bob.getAccessToken()}` } });
    assert.equal(response.status, 200);
    const opened = await decryptFile(new Uint8Array(await response.arrayBuffer()), got.getContent().file);
    assert.deepEqual(opened, Buffer.from(photo));
    step("an encrypted attachment is sent and fetched");

    await bob.sendReadReceipt(got);
    await until("alice sees bob's receipt", () =>
        alice.getRoom(roomId).getReceiptsForEvent(find(alice, roomId, attachment)).some((r) => r.userId === bob.getUserId()),
    );
    await bob.sendTyping(roomId, true, 20_000);
    await until("alice sees bob typing", () => alice.getRoom(roomId).getMember(bob.getUserId()).typing);
    await bob.sendTyping(roomId, false, 0);
    await until("alice sees bob stop typing", () => !alice.getRoom(roomId).getMember(bob.getUserId()).typing);
    step("receipts and typing are seen");

    await until("all keys are in the backup", async () => {
        const version = await alice.getCrypto().getActiveSessionBackupVersion();
        const backup = await alice.http.authedRequest("GET", "/room_keys/version");
        return version && backup.count >= 2;
    });
    const second = await signIn(alice.getUserId());
    second.kept.key = recovery.privateKey;
    await until("the new device knows its owner's identity", () => second.getCrypto().userHasCrossSigningKeys(alice.getUserId(), true));
    await second.getCrypto().bootstrapCrossSigning({});
    await until("the second device is cross-signed", async () =>
        (await second.getCrypto().getDeviceVerificationStatus(second.getUserId(), second.getDeviceId()))?.crossSigningVerified,
    );
    await second.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
    await second.getCrypto().checkKeyBackupAndEnable();
    const restored = await second.getCrypto().restoreKeyBackup();
    assert.ok(restored.imported >= 2, `restored ${restored.imported} sessions`);
    await reads(second, roomId, answer, "Yes, it is.");
    const old = await reads(second, roomId, hello);
    assert.match(old.getContent().body, /bicycle still there/);
    step("a second device reads old messages through key backup");

    const fresh = await send(second, roomId, text("Hello from my phone"));
    await reads(bob, roomId, fresh, "Hello from my phone");
    await reads(alice, roomId, fresh, "Hello from my phone");
    const late = await send(bob, roomId, text("Hello, phone"));
    await reads(second, roomId, late, "Hello, phone");
    step("the second device talks and is talked to");

    const devices = await alice.getDevices();
    assert.equal(devices.devices.length, 2);
    await second.logout(true);
    await until("bob sees the device go", async () => {
        const list = await bob.getCrypto().getUserDeviceInfo([alice.getUserId()], true);
        return list.get(alice.getUserId())?.size === 1;
    });
    step("logging out removes the device for everybody");
    for (const client of [alice, bob, second]) client.stopClient();
}

main().then(
    () => process.exit(0),
    (error) => {
        say(`not ok ${error.stack ?? error}`);
        process.exit(1);
    },
);

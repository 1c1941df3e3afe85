// SPDX-License-Identifier: Apache-2.0
// Spaces, restricted joins, threads and a cross-signing reset, as matrix-js-sdk does them.
import "fake-indexeddb/auto";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { assert, BASE, PASSWORD, run, sdk, signIn, signUp, step, text, until } from "./common.mjs";

logger.setLevel("silent");

async function start(session) {
    const client = sdk.createClient({
        baseUrl: BASE,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
    });
    await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ initialSyncLimit: 20, threadSupport: true, lazyLoadMembers: true });
    await until("first sync", () => client.isInitialSyncComplete());
    return client;
}

let sent = 0;

/** Sends without the SDK's local echo, which loses a race with the sync of a thread now and then. */
async function send(client, roomId, content) {
    const path = `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/raw${sent++}`;
    return (await client.http.authedRequest("PUT", path, undefined, content)).event_id;
}

async function threads(alice, bob, roomId) {
    const root = await send(alice, roomId, text("How much?"));
    const inThread = { "m.relates_to": { rel_type: "m.thread", event_id: root } };
    let thread;
    for (const [index, body] of ["25", "20", "22"].entries()) {
        await until("alice has the root", () => alice.getRoom(roomId)?.findEventById(root));
        await send(bob, roomId, text(body, inThread));
        thread = await until(`alice has reply ${index + 1}`, () => {
            const found = alice.getRoom(roomId)?.getThread(root);
            return found?.length === index + 1 && found;
        });
    }
    await until("the newest reply is shown", () => thread.replyToEvent?.getContent().body === "22");
    await until("the thread counts as unread", () => alice.getRoom(roomId).getThreadUnreadNotificationCount(root, "total") === 3);
    await alice.sendReadReceipt(thread.replyToEvent);
    await until("reading the thread clears it", () => alice.getRoom(roomId).getThreadUnreadNotificationCount(root, "total") === 0);
    await bob.getRoom(roomId).createThreadsTimelineSets();
    await bob.getRoom(roomId).fetchRoomThreads();
    assert.ok(bob.getRoom(roomId).getThread(root));
}

async function masterKey(client, userId) {
    const { master_keys: keys } = await client.downloadKeysForUsers([userId]);
    return Object.values(keys[userId].keys)[0];
}

run(async () => {
    const alice = await start(await signUp("alice"));
    const bob = await start(await signUp("bob"));
    const via = [alice.getDomain()];
    const { room_id: space } = await alice.createRoom({ name: "Shop", preset: "public_chat", creation_content: { type: "m.space" } });
    const { room_id: lounge } = await alice.createRoom({
        name: "Lounge",
        initial_state: [
            { type: "m.room.join_rules", state_key: "", content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: space }] } },
            { type: "m.space.parent", state_key: space, content: { via, canonical: true } },
        ],
    });
    await alice.sendStateEvent(space, "m.space.child", { via, suggested: true }, lounge);
    await assert.rejects(bob.joinRoom(lounge), (error) => error.errcode === "M_FORBIDDEN");
    await bob.joinRoom(space);
    const { rooms } = await bob.getRoomHierarchy(space, 20, 3, false);
    assert.deepEqual(rooms.map((room) => room.room_id), [space, lounge]);
    await bob.joinRoom(lounge);
    await until("bob is in the lounge", () => bob.getRoom(lounge)?.getMyMembership() === "join");
    step("a member of the space joins its restricted room");

    await threads(alice, bob, lounge);
    step("threads are listed, counted and read");

    const auth = async (request) =>
        request({ type: "m.login.password", identifier: { type: "m.id.user", user: alice.getUserId() }, password: PASSWORD });
    await alice.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: auth });
    const before = await masterKey(bob, alice.getUserId());
    await alice.getCrypto().bootstrapCrossSigning({ setupNewCrossSigning: true, authUploadDeviceSigningKeys: auth });
    const after = await masterKey(bob, alice.getUserId());
    assert.ok(before && after && before !== after, `${before} ${after}`);
    const second = await start(await signIn(alice.getUserId()));
    await until("the new identity is seen", () => second.getCrypto().userHasCrossSigningKeys(alice.getUserId(), true));
    step("cross-signing is reset");

    const { replacement_room: newer } = await alice.upgradeRoom(lounge, "12");
    await until("the tombstone arrives", () => bob.getRoom(lounge)?.currentState.getStateEvents("m.room.tombstone", "")?.getContent().replacement_room === newer);
    await bob.joinRoom(newer);
    await until("bob is in the new room", () => bob.getRoom(newer)?.getMyMembership() === "join");
    assert.equal(bob.getRoom(newer).name, "Lounge");
    step("a room is upgraded");
    for (const client of [alice, bob, second]) client.stopClient();
});

// SPDX-License-Identifier: Apache-2.0
// The same conversation seen through sliding sync, encrypted: matrix-js-sdk's SlidingSync over our server's list.
import "fake-indexeddb/auto";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { assert, BASE, run, sdk, signUp, step, text, until } from "./common.mjs";

logger.setLevel("silent");
const STATE = [["m.room.create", ""], ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]];

async function start(session) {
    const client = sdk.createClient({
        baseUrl: BASE,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
    });
    await client.initRustCrypto({ useIndexedDB: false });
    const list = { ranges: [[0, 19]], timeline_limit: 1, required_state: STATE };
    const sliding = new SlidingSync(BASE, new Map([["all", list]]), { timeline_limit: 20, required_state: STATE }, client, 5_000);
    await client.startClient({ slidingSync: sliding, threadSupport: true });
    await until("the list is there", () => sliding.getListData("all") !== null);
    return { client, sliding };
}

const sees = (client, roomId, eventId) =>
    until(`${client.getUserId()} sees ${eventId}`, () => client.getRoom(roomId)?.findEventById(eventId));

run(async () => {
    const alice = await start(await signUp("alice"));
    const bob = await start(await signUp("bob"));
    step("two people come in over sliding sync");

    const { room_id: roomId } = await alice.client.createRoom({
        preset: "trusted_private_chat",
        name: "Red bicycle",
        invite: [bob.client.getUserId()],
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await until("bob is invited", () => bob.client.getRoom(roomId)?.getMyMembership() === "invite");
    await bob.client.joinRoom(roomId);
    await until("bob has joined for alice", () => alice.client.getRoom(roomId)?.getMember(bob.client.getUserId())?.membership === "join");
    await until("bob sees the name", () => bob.client.getRoom(roomId)?.name === "Red bicycle");
    step("an invite becomes a room");

    for (const { sliding } of [alice, bob]) sliding.modifyRoomSubscriptions(new Set([roomId]));
    await until("the room is encrypted for bob", () => bob.client.getCrypto().isEncryptionEnabledInRoom(roomId));
    const hello = (await alice.client.sendEvent(roomId, "m.room.message", text("Is it still there?"))).event_id;
    const got = await sees(bob.client, roomId, hello);
    await bob.client.decryptEventIfNeeded(got);
    assert.equal(got.getContent().body, "Is it still there?");
    const answer = (await bob.client.sendEvent(roomId, "m.room.message", text("Yes."))).event_id;
    const back = await sees(alice.client, roomId, answer);
    await alice.client.decryptEventIfNeeded(back);
    assert.equal(back.getContent().body, "Yes.");
    step("they talk both ways, encrypted");

    const last = (await alice.client.sendEvent(roomId, "m.room.message", text("I take it."))).event_id;
    await bob.client.sendReadReceipt(await sees(bob.client, roomId, last));
    const readBy = () => alice.client.getRoom(roomId).getReceiptsForEvent(alice.client.getRoom(roomId).findEventById(last));
    await until("alice sees bob's receipt", () => readBy().some((receipt) => receipt.userId === bob.client.getUserId()));
    await bob.client.sendTyping(roomId, true, 20_000);
    await until("alice sees bob typing", () => alice.client.getRoom(roomId).getMember(bob.client.getUserId())?.typing);
    await alice.client.setRoomTag(roomId, "m.favourite", { order: 0.5 });
    await until("the tag arrives", () => alice.client.getRoom(roomId).tags["m.favourite"]);
    step("receipts, typing and account data arrive by extension");

    const others = [];
    for (let number = 0; number < 25; number++) {
        others.push((await bob.client.createRoom({ preset: "public_chat", name: `Listing ${number}` })).room_id);
    }
    await until("the list counts them", () => bob.sliding.getListData("all").joinedCount === 26);
    bob.sliding.setListRanges("all", [[0, 99]]);
    await until("all rooms come with the larger window", () => others.every((id) => bob.client.getRoom(id)));
    step("a larger window brings the rest");
    await bob.client.leave(others[0]);
    await until("the list shrinks", () => bob.sliding.getListData("all").joinedCount === 25);
    step("a room that was left goes");
    for (const { client, sliding } of [alice, bob]) {
        sliding.stop();
        client.stopClient();
    }
});

// SPDX-License-Identifier: Apache-2.0
// A bot written with matrix-bot-sdk joins on invite and answers. Its native encryption addon is a download from elsewhere, so it is
// replaced by nothing and the bot talks unencrypted.
import Module, { createRequire } from "node:module";
import { assert, BASE, run, signUp, step, until } from "./common.mjs";

const load = Module._load;
Module._load = (name, ...rest) => (name === "@matrix-org/matrix-sdk-crypto-nodejs" ? { StoreType: {} } : load(name, ...rest));
const { AutojoinRoomsMixin, LogLevel, LogService, MatrixClient, MemoryStorageProvider } = createRequire(import.meta.url)("matrix-bot-sdk");
LogService.setLevel(LogLevel.fromString("error", LogLevel.ERROR));

run(async () => {
    const [person, robot] = [await signUp("person"), await signUp("robot")];
    const bot = new MatrixClient(BASE, robot.access_token, new MemoryStorageProvider());
    const human = new MatrixClient(BASE, person.access_token, new MemoryStorageProvider());
    AutojoinRoomsMixin.setupOnClient(bot);
    bot.on("room.message", async (roomId, event) => {
        if (event.sender !== robot.user_id && event.content.body === "!price") await bot.replyText(roomId, event, "25 EUR");
    });
    const heard = [];
    human.on("room.message", (_roomId, event) => heard.push(event));
    await bot.start();
    await human.start();
    assert.equal(await bot.getUserId(), robot.user_id);
    step("a bot starts");

    const roomId = await human.createRoom({ invite: [robot.user_id], preset: "private_chat" });
    await until("the bot has joined", async () => (await human.getJoinedRoomMembers(roomId)).includes(robot.user_id));
    const asked = await human.sendText(roomId, "!price");
    const reply = await until("the answer", () => heard.find((event) => event.sender === robot.user_id));
    assert.equal(reply.content["m.relates_to"]["m.in_reply_to"].event_id, asked);
    step("it joins when invited and answers");

    await bot.setDisplayName("Price bot");
    assert.equal((await human.getUserProfile(robot.user_id)).displayname, "Price bot");
    const reaction = await human.unstableApis.addReactionToEvent(roomId, reply.event_id, "👍");
    await human.redactEvent(roomId, reaction, "mistake");
    await bot.setRoomAccountData("chat.parley.test", roomId, { seen: 1 });
    assert.deepEqual(await bot.getRoomAccountData("chat.parley.test", roomId), { seen: 1 });
    await human.kickUser(robot.user_id, roomId, "done");
    await until("the bot is out", async () => !(await bot.getJoinedRooms()).includes(roomId));
    step("profile, reaction, redaction, account data and kick work");
    bot.stop();
    human.stop();
});

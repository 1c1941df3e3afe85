// SPDX-License-Identifier: Apache-2.0
// What the journeys share: signing up, waiting, and reporting steps.
import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";

export const BASE = process.argv[2];
export const TIMEOUT = 30_000;
export const PASSWORD = "correct horse battery staple";
const tag = Math.random().toString(36).slice(2, 8);

for (const level of ["log", "debug", "info", "warn", "trace"]) console[level] = () => {};

export const say = (text) => process.stdout.write(text + "\n");
export const step = (name) => say(`ok ${name}`);
export const text = (body, extra = {}) => ({ msgtype: "m.text", body, ...extra });

export async function until(what, check, timeout = TIMEOUT) {
    const end = Date.now() + timeout;
    for (;;) {
        const got = await check();
        if (got) return got;
        if (Date.now() > end) throw new Error(`waited ${timeout} ms for: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** A new account's session: user_id, device_id, access_token. */
export async function signUp(name) {
    return sdk.createClient({ baseUrl: BASE }).registerRequest({
        username: `${name}-${tag}`,
        password: PASSWORD,
        auth: { type: "m.login.dummy" },
        initial_device_display_name: `${name}'s first device`,
    });
}

/** A session of a second device. */
export async function signIn(userId) {
    return sdk.createClient({ baseUrl: BASE }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: userId },
        password: PASSWORD,
        initial_device_display_name: "second device",
    });
}

/** Runs a journey and ends the process with its outcome. */
export function run(journey) {
    journey().then(
        () => {
            say("ok the end");
            process.exit(0);
        },
        (error) => {
            say(`not ok ${error.stack ?? error}`);
            process.exit(1);
        },
    );
}

export { assert, sdk };

// SPDX-License-Identifier: Apache-2.0
// Knows every sentence the app says, as a type: a language that lacks one does not compile.

export interface Catalog {
  readonly language: string;
  readonly direction: "ltr" | "rtl";
  readonly signIn: {
    title: string;
    lead: string;
    user: string;
    password: string;
    submit: string;
    busy: string;
    show: string;
    hide: string;
    wrong: string;
    slow: string;
    unreachable: string;
    refused: (reason: string) => string;
    signedOut: string;
  };
  readonly nav: { main: string; chats: string; settings: string; skip: string };
  readonly list: {
    title: string;
    label: string;
    search: string;
    filters: string;
    all: string;
    unread: string;
    empty: string;
    emptyUnread: string;
    showAll: string;
    noHits: (query: string) => string;
    loading: string;
    new: string;
    invited: string;
    you: (text: string) => string;
    by: (name: string, text: string) => string;
    draft: string;
    notSent: string;
    unreadCount: (count: number) => string;
    typing: string;
    nobody: string;
  };
  readonly chat: {
    back: string;
    messages: string;
    pick: string;
    pickLead: string;
    people: (count: number) => string;
    direct: string;
    typing: (names: string) => string;
    newMessages: string;
    beginning: string;
    older: string;
    olderFailed: string;
    again: string;
    jump: string;
    inviteTitle: (name: string) => string;
    inviteLead: string;
    accept: string;
    decline: string;
    gone: string;
    encrypted: string;
    failed: string;
  };
  readonly message: {
    sending: string;
    queued: string;
    sent: string;
    read: string;
    readBy: (names: string) => string;
    notSent: string;
    retry: string;
    remove: string;
    edit: string;
    edited: string;
    removed: string;
    unreadable: string;
    picture: string;
    video: string;
    voice: string;
    file: string;
    place: string;
    sticker: string;
    other: string;
  };
  readonly system: {
    joined: (name: string) => string;
    left: (name: string) => string;
    invited: (by: string, name: string) => string;
    removed: (by: string, name: string) => string;
    barred: (by: string, name: string) => string;
    declined: (name: string) => string;
    renamed: (before: string, after: string) => string;
    picture: (name: string) => string;
    created: (name: string) => string;
    named: (by: string, title: string) => string;
    topic: (by: string, topic: string) => string;
    roomPicture: (by: string) => string;
    private: (by: string) => string;
  };
  readonly composer: { label: (name: string) => string; placeholder: (name: string) => string; send: string; offline: string };
  readonly start: { title: string; lead: string; user: string; submit: string; cancel: string; failed: (reason: string) => string };
  readonly settings: {
    title: string;
    theme: string;
    themes: Record<"system" | "light" | "dark" | "contrast" | "contrast-dark", string>;
    language: string;
    account: string;
    signOut: string;
    signOutWaiting: (count: number) => string;
    close: string;
  };
  readonly link: { offline: string; trouble: string };
  readonly days: { today: string; yesterday: string };
  readonly fault: { title: string; reload: string };
}

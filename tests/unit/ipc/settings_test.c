/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of ipc/settings.c: what is filled comes back, what would hurt a child is refused. */
#include "ipc/settings.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "tests/unit/unit.h"

static const struct settings sample = {
    .server_id = "NABC",
    .server_name = "a name",
    .host = "127.0.0.1",
    .cluster = "",
    .port = 4222,
    .debug = true,
    .max_payload = 1 << 20,
    .max_control_line = 4096,
    .max_pending = UINT64_C(1) << 33,
    .max_subscriptions = 1,
    .max_sub_tokens = 2,
    .ping_interval_ms = 3,
    .ping_max = 4,
    .write_deadline_ms = 5,
    .auth_timeout_ms = 6,
    .source_wait_ms = 7,
    .source_share_ms = 8,
    .edge_dead_ms = 9,
    .replay_ms = 10,
    .spill_bytes = UINT64_C(1) << 34,
    .conn_bytes = UINT64_C(1) << 35,
    .account_bytes = UINT64_C(1) << 36,
    .router_bytes = UINT64_C(1) << 37,
    .frontend_bytes = UINT64_C(1) << 38,
};

START_TEST(test_round_trip) {
    Bulkhead__Settings message;
    settings_fill(&message, &sample);
    uint8_t packed[1024];
    size_t len = bulkhead__settings__pack(&message, packed);
    Bulkhead__Settings *unpacked = bulkhead__settings__unpack(NULL, len, packed);
    ck_assert_ptr_nonnull(unpacked);
    struct settings taken;
    ck_assert_int_eq(settings_take(&taken, unpacked), ERR_OK);
    bulkhead__settings__free_unpacked(unpacked, NULL);
    ck_assert_str_eq(taken.server_id, sample.server_id);
    ck_assert_str_eq(taken.server_name, sample.server_name);
    ck_assert_str_eq(taken.host, sample.host);
    ck_assert_str_eq(taken.cluster, sample.cluster);
    ck_assert(taken.debug && !taken.trace);
    ck_assert_mem_eq(&taken.max_payload, &sample.max_payload, sizeof sample - offsetof(struct settings, max_payload));
}
END_TEST

static char long_text[SETTINGS_TEXT_MAX + 2];

static void set_port(Bulkhead__Settings *m) {
    m->port = 65536;
}
static void set_payload_0(Bulkhead__Settings *m) {
    m->max_payload = 0;
}
static void set_payload_large(Bulkhead__Settings *m) {
    m->max_payload = SETTINGS_PAYLOAD_MAX + 1;
}
static void set_line_0(Bulkhead__Settings *m) {
    m->max_control_line = 0;
}
static void set_line_large(Bulkhead__Settings *m) {
    m->max_control_line = SETTINGS_CONTROL_LINE_MAX + 1;
}
static void set_pending_0(Bulkhead__Settings *m) {
    m->max_pending = 0;
}
static void set_text(ProtobufCBinaryData *out, const char *text, size_t len) {
    *out = (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)text};
}
static void set_name_long(Bulkhead__Settings *m) {
    set_text(&m->server_name, long_text, SETTINGS_TEXT_MAX + 1);
}
static void set_id_long(Bulkhead__Settings *m) {
    set_text(&m->server_id, long_text, 64);
}
static void set_nul(Bulkhead__Settings *m) {
    set_text(&m->host, "a\0b", 3);
}
static void set_newline(Bulkhead__Settings *m) {
    set_text(&m->cluster, "a\nb", 3);
}

START_TEST(test_refused) {
    static const struct {
        const char *name;
        void (*change)(Bulkhead__Settings *);
    } rows[] = {
        {"port", set_port},           {"no payload", set_payload_0}, {"large payload", set_payload_large},
        {"no line", set_line_0},      {"long line", set_line_large}, {"no pending", set_pending_0},
        {"long name", set_name_long}, {"long id", set_id_long},      {"NUL", set_nul},
        {"newline", set_newline},
    };
    memset(long_text, 'x', sizeof long_text);
    Bulkhead__Settings message;
    settings_fill(&message, &sample);
    rows[_i].change(&message);
    struct settings taken;
    ck_assert_msg(settings_take(&taken, &message) == ERR_RANGE, "%s", rows[_i].name);
}
END_TEST

/* ---- a change in two steps ---- */

static uint64_t refusal(struct settings_change *change, const int fds[2], uint32_t payload, uint64_t cap) {
    struct settings wanted = sample;
    struct note note;
    Bulkhead__Settings message;
    wanted.max_payload = payload;
    wanted.generation = 5;
    settings_fill(&message, &wanted);
    struct channel control;
    ck_assert_int_eq(channel_open(&control, dup(fds[0]), "the supervisor", NULL, 0, NULL, 1), ERR_OK);
    ck_assert_int_eq(settings_prepare(change, &control, &message, cap), ERR_OK);
    channel_close(&control);
    ck_assert_int_eq(note_receive(fds[1], &note), ERR_OK);
    ck_assert_int_eq(note.type, NOTE_PREPARED);
    ck_assert_uint_eq(note.number, 5);
    return note.value;
}

START_TEST(test_prepare_and_commit) {
    struct settings now = sample;
    struct settings_change change = {0};
    Bulkhead__Commit commit = BULKHEAD__COMMIT__INIT;
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    commit.generation = 5;
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_STATE);
    ck_assert_uint_eq(refusal(&change, fds, 1 << 20, 2 << 20), SETTINGS_RINGS_TOO_SMALL);
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_STATE);
    ck_assert_uint_eq(refusal(&change, fds, 0, UINT64_MAX), SETTINGS_BAD);
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_STATE);
    ck_assert_uint_eq(refusal(&change, fds, 1000, 2 << 20), SETTINGS_FINE);
    ck_assert_uint_eq(now.max_payload, sample.max_payload);
    commit.generation = 4;
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_STATE);
    commit.generation = 5;
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_OK);
    ck_assert_uint_eq(now.max_payload, 1000);
    ck_assert_int_eq(settings_commit(&now, &change, &commit), ERR_STATE);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("settings");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_prepare_and_commit);
    tcase_add_loop_test(tcase, test_refused, 0, 10);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/libnats_secure.c: logins, rights and TLS with the C client library.
 *
 * Arguments, as secure_clients_test.py gives them: the ports of the servers users, token, tls, mutual, mapped; then the files
 * seed, ca, strangers' ca, client's certificate, its key, unmapped certificate, certificate of the user with few rights; then
 * the public nkey. Prints `ok` at the end. Every failed expectation ends the program with its line.
 */
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

enum {
    USERS = 1,
    TOKEN,
    TLS,
    MUTUAL,
    MAPPED,
    SEED,
    CA,
    STRANGERS_CA,
    CERT,
    KEY,
    UNMAPPED_CERT,
    FEW_CERT,
    PUBLIC,
    ARGUMENTS
};

static char **arguments;
static const int64_t WAIT_MS = 10000;

/* The errors that the library reports while a connection lives. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int count;
    char text[8][256];
} errors = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure) {
    const char *last = NULL;

    (void)subscription, (void)closure;
    if (status != NATS_NOT_PERMITTED)
        return;
    natsConnection_GetLastError(connection, &last);
    pthread_mutex_lock(&errors.lock);
    if (errors.count < 8)
        snprintf(errors.text[errors.count++], sizeof errors.text[0], "%s", last ? last : "");
    pthread_cond_signal(&errors.more);
    pthread_mutex_unlock(&errors.lock);
}

static natsOptions *options_for(int server) {
    char url[64];
    natsOptions *options = NULL;

    snprintf(url, sizeof url, "nats://127.0.0.1:%s", arguments[server]);
    EXPECT_OK(natsOptions_Create(&options));
    EXPECT_OK(natsOptions_SetURL(options, url));
    EXPECT_OK(natsOptions_SetAllowReconnect(options, false));
    EXPECT_OK(natsOptions_SetTimeout(options, WAIT_MS));
    EXPECT_OK(natsOptions_SetErrorHandler(options, on_error, NULL));
    return options;
}

static natsOptions *with_tls(natsOptions *options, int ca, int cert) {
    EXPECT_OK(natsOptions_SetSecure(options, true));
    EXPECT_OK(natsOptions_LoadCATrustedCertificates(options, arguments[ca]));
    if (cert != 0)
        EXPECT_OK(natsOptions_LoadCertificatesChain(options, arguments[cert], arguments[KEY]));
    return options;
}

static natsOptions *with_user(natsOptions *options, const char *user, const char *password) {
    EXPECT_OK(natsOptions_SetUserInfo(options, user, password));
    return options;
}

static natsOptions *with_nkey(natsOptions *options) {
    EXPECT_OK(natsOptions_SetNKeyFromSeed(options, arguments[PUBLIC], arguments[SEED]));
    return options;
}

static natsOptions *with_token(natsOptions *options, const char *token) {
    EXPECT_OK(natsOptions_SetToken(options, token));
    return options;
}

static natsConnection *connect_with(natsOptions *options) {
    natsConnection *connection = NULL;

    EXPECT_OK(natsConnection_Connect(&connection, options));
    natsOptions_Destroy(options);
    return connection;
}

static void echo(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)subscription, (void)closure;
    natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message),
                           natsMsg_GetDataLength(message));
    natsMsg_Destroy(message);
}

static void expect_works(natsOptions *options) {
    natsConnection *connection = connect_with(options);
    natsSubscription *subscription = NULL;
    natsMsg *answer = NULL;
    int size = (int)natsConnection_GetMaxPayload(connection);
    char *text = calloc(1, (size_t)size);

    EXPECT_OK(natsConnection_Subscribe(&subscription, connection, "echo.c", echo, NULL));
    for (int n = 1; n <= size; n = n < size && n * 64 > size ? size : n * 64) {
        EXPECT_OK(natsConnection_Request(&answer, connection, "echo.c", text, n, WAIT_MS));
        EXPECT(natsMsg_GetDataLength(answer) == n);
        natsMsg_Destroy(answer);
        if (n == size)
            break;
    }
    free(text);
    natsSubscription_Destroy(subscription);
    natsConnection_Destroy(connection);
}

static void expect_refused(natsOptions *options) {
    natsConnection *connection = NULL;

    EXPECT_STATUS(natsConnection_Connect(&connection, options), NATS_CONNECTION_AUTH_FAILED);
    natsOptions_Destroy(options);
}

/* A handshake that fails: which status it is depends on who notices first. */
static void expect_no_tls(natsOptions *options) {
    natsConnection *connection = NULL;

    EXPECT(natsConnection_Connect(&connection, options) != NATS_OK);
    natsOptions_Destroy(options);
}

static void expect_denied(int n, const char *text) {
    pthread_mutex_lock(&errors.lock);
    while (errors.count <= n)
        pthread_cond_wait(&errors.more, &errors.lock); /* the test ends a program that waits for ever */
    if (strstr(errors.text[n], text) == NULL)
        fprintf(stderr, "expected %s, got %s\n", text, errors.text[n]);
    EXPECT(strstr(errors.text[n], text) != NULL);
    pthread_mutex_unlock(&errors.lock);
}

/* One after the other: the library tells the last error only. */
static void permissions(natsConnection *connection) {
    natsSubscription *subscription = NULL, *good = NULL;
    natsMsg *message = NULL;

    errors.count = 0;
    EXPECT_OK(natsConnection_PublishString(connection, "no.publish", "x"));
    EXPECT_OK(natsConnection_Flush(connection));
    expect_denied(0, "Permissions Violation for Publish to \"no.publish\"");
    EXPECT_OK(natsConnection_SubscribeSync(&subscription, connection, "no.subscribe"));
    EXPECT_OK(natsConnection_Flush(connection));
    expect_denied(1, "Permissions Violation for Subscription to \"no.subscribe\"");
    natsSubscription_Destroy(subscription);
    EXPECT_OK(natsConnection_QueueSubscribeSync(&subscription, connection, "ok.queue", "h"));
    EXPECT_OK(natsConnection_Flush(connection));
    expect_denied(2, "Permissions Violation for Subscription to \"ok.queue\" using queue \"h\"");
    natsSubscription_Destroy(subscription);
    EXPECT_OK(natsConnection_QueueSubscribeSync(&good, connection, "ok.queue", "g"));
    EXPECT_OK(natsConnection_PublishString(connection, "ok.queue", "still here"));
    EXPECT_OK(natsSubscription_NextMsg(&message, good, WAIT_MS));
    EXPECT(strncmp(natsMsg_GetData(message), "still here", 10) == 0);
    natsMsg_Destroy(message);
    natsSubscription_Destroy(good);
    natsConnection_Destroy(connection);
}

static void accounts(natsConnection *a, natsConnection *b) {
    natsSubscription *of_a = NULL, *of_b = NULL;
    natsMsg *message = NULL;

    EXPECT_OK(natsConnection_SubscribeSync(&of_a, a, "shared"));
    EXPECT_OK(natsConnection_SubscribeSync(&of_b, b, "shared"));
    EXPECT_OK(natsConnection_Flush(a));
    EXPECT_OK(natsConnection_PublishString(b, "shared", "b"));
    EXPECT_OK(natsSubscription_NextMsg(&message, of_b, WAIT_MS));
    natsMsg_Destroy(message);
    EXPECT_OK(natsConnection_Flush(b));
    EXPECT_OK(natsConnection_Flush(a));
    uint64_t queued = 0;
    EXPECT_OK(natsSubscription_QueuedMsgs(of_a, &queued));
    EXPECT(queued == 0);
    natsSubscription_Destroy(of_a);
    natsSubscription_Destroy(of_b);
    natsConnection_Destroy(a);
    natsConnection_Destroy(b);
}

int main(int argc, char **argv) {
    arguments = argv;
    EXPECT(argc == ARGUMENTS);
    expect_works(with_user(options_for(USERS), "ann", "pa"));
    expect_refused(with_user(options_for(USERS), "ann", "no"));
    expect_refused(options_for(USERS));
    expect_works(with_nkey(options_for(USERS)));
    expect_works(with_token(options_for(TOKEN), "t0k3n"));
    expect_refused(with_token(options_for(TOKEN), "no"));
    permissions(connect_with(with_user(options_for(USERS), "few", "p")));
    accounts(connect_with(with_user(options_for(USERS), "ann", "pa")),
             connect_with(with_user(options_for(USERS), "bob", "pb")));

    expect_works(with_tls(with_user(options_for(TLS), "ann", "pa"), CA, 0));
    expect_refused(with_tls(with_user(options_for(TLS), "ann", "no"), CA, 0));
    expect_no_tls(with_tls(with_user(options_for(TLS), "ann", "pa"), STRANGERS_CA, 0));
    expect_works(with_tls(with_nkey(options_for(MUTUAL)), CA, CERT));
    expect_no_tls(with_tls(with_nkey(options_for(MUTUAL)), CA, 0));
    expect_works(with_tls(options_for(MAPPED), CA, CERT));
    expect_refused(with_tls(options_for(MAPPED), CA, UNMAPPED_CERT));
    permissions(connect_with(with_tls(options_for(MAPPED), CA, FEW_CERT)));
    nats_Close();
    puts("ok");
    return 0;
}

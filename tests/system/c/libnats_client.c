/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/libnats_client.c: what clients_test.py does with the C client library.
 *
 * Argument: the server's port. Prints `restart` when the test shall restart the server, and `ok` at the end. Every failed
 * expectation ends the program with its line.
 */
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

static const int64_t WAIT_MS = 10000;

static natsConnection *connect_to(const char *port, natsConnectionHandler on_reconnect, void *closure) {
    char url[64];
    natsOptions *options = NULL;
    natsConnection *connection = NULL;

    snprintf(url, sizeof url, "nats://127.0.0.1:%s", port);
    EXPECT_OK(natsOptions_Create(&options));
    EXPECT_OK(natsOptions_SetURL(options, url));
    EXPECT_OK(natsOptions_SetReconnectWait(options, 50));
    EXPECT_OK(natsOptions_SetMaxReconnect(options, 10000));
    if (on_reconnect != NULL)
        EXPECT_OK(natsOptions_SetReconnectedCB(options, on_reconnect, closure));
    EXPECT_OK(natsConnection_Connect(&connection, options));
    natsOptions_Destroy(options);
    return connection;
}

static void expect_text(natsSubscription *subscription, const char *text) {
    natsMsg *message = NULL;

    EXPECT_OK(natsSubscription_NextMsg(&message, subscription, WAIT_MS));
    EXPECT((size_t)natsMsg_GetDataLength(message) == strlen(text));
    EXPECT(memcmp(natsMsg_GetData(message), text, strlen(text)) == 0);
    natsMsg_Destroy(message);
}

static void publish_and_subscribe(natsConnection *connection) {
    natsSubscription *subscription = NULL;
    natsMsg *message = NULL;
    char text[16];

    EXPECT_OK(natsConnection_SubscribeSync(&subscription, connection, "c.*"));
    EXPECT_OK(natsConnection_PublishString(connection, "c.a", "one"));
    EXPECT_OK(natsConnection_PublishRequestString(connection, "c.b", "c.reply", "two"));
    expect_text(subscription, "one");
    EXPECT_OK(natsSubscription_NextMsg(&message, subscription, WAIT_MS));
    EXPECT(strcmp(natsMsg_GetSubject(message), "c.b") == 0);
    EXPECT(strcmp(natsMsg_GetReply(message), "c.reply") == 0);
    natsMsg_Destroy(message);

    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "%d", i);
        EXPECT_OK(natsConnection_PublishString(connection, "c.many", text));
    }
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "%d", i);
        expect_text(subscription, text);
    }

    EXPECT_OK(natsSubscription_AutoUnsubscribe(subscription, 10002 + 1));
    EXPECT_OK(natsConnection_PublishString(connection, "c.a", "last"));
    EXPECT_OK(natsConnection_PublishString(connection, "c.a", "over the maximum"));
    expect_text(subscription, "last");
    EXPECT_STATUS(natsSubscription_NextMsg(&message, subscription, WAIT_MS), NATS_MAX_DELIVERED_MSGS);
    natsSubscription_Destroy(subscription);
}

static void large_message(natsConnection *connection) {
    int64_t size = natsConnection_GetMaxPayload(connection);
    char *payload = malloc((size_t)size);
    natsSubscription *subscription = NULL;
    natsMsg *message = NULL;

    EXPECT(payload != NULL);
    memset(payload, 7, (size_t)size);
    EXPECT_OK(natsConnection_SubscribeSync(&subscription, connection, "c.large"));
    EXPECT_OK(natsConnection_Publish(connection, "c.large", payload, (int)size));
    EXPECT_OK(natsSubscription_NextMsg(&message, subscription, WAIT_MS));
    EXPECT(natsMsg_GetDataLength(message) == size);
    EXPECT(memcmp(natsMsg_GetData(message), payload, (size_t)size) == 0);
    natsMsg_Destroy(message);
    natsSubscription_Destroy(subscription);
    free(payload);
}

static void answer(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)subscription;
    (void)closure;
    EXPECT_OK(natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message),
                                     natsMsg_GetDataLength(message)));
    natsMsg_Destroy(message);
}

static void requests(natsConnection *connection, natsConnection *responder) {
    natsSubscription *subscription = NULL;
    natsMsg *reply = NULL;

    EXPECT_OK(natsConnection_Subscribe(&subscription, responder, "service", answer, NULL));
    EXPECT_OK(natsConnection_Flush(responder));
    for (int i = 0; i < 100; i++) {
        EXPECT_OK(natsConnection_RequestString(&reply, connection, "service", "echo", WAIT_MS));
        EXPECT(natsMsg_GetDataLength(reply) == 4 && memcmp(natsMsg_GetData(reply), "echo", 4) == 0);
        natsMsg_Destroy(reply);
    }
    EXPECT_OK(natsSubscription_Unsubscribe(subscription));
    EXPECT_OK(natsConnection_Flush(responder));
    natsSubscription_Destroy(subscription);
    EXPECT_STATUS(natsConnection_RequestString(&reply, connection, "service", "x", WAIT_MS), NATS_NO_RESPONDERS);
}

static void queue_groups(natsConnection *connection, natsConnection *other) {
    natsSubscription *members[2] = {NULL, NULL};
    int counts[2];

    EXPECT_OK(natsConnection_QueueSubscribeSync(&members[0], connection, "queue", "g"));
    EXPECT_OK(natsConnection_QueueSubscribeSync(&members[1], other, "queue", "g"));
    EXPECT_OK(natsConnection_Flush(other));
    for (int i = 0; i < 300; i++)
        EXPECT_OK(natsConnection_PublishString(connection, "queue", "x"));
    EXPECT_OK(natsConnection_Flush(connection));
    EXPECT_OK(natsConnection_Flush(other));
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(natsSubscription_GetPending(members[i], &counts[i], NULL));
        natsSubscription_Destroy(members[i]);
    }
    EXPECT(counts[0] + counts[1] == 300);
    EXPECT(counts[0] > 60 && counts[1] > 60);
}

static void headers(natsConnection *connection) {
    natsSubscription *subscription = NULL;
    natsMsg *sent = NULL, *received = NULL;
    const char *value = NULL;

    EXPECT_OK(natsConnection_SubscribeSync(&subscription, connection, "headers"));
    EXPECT_OK(natsMsg_Create(&sent, "headers", NULL, "body", 4));
    EXPECT_OK(natsMsgHeader_Set(sent, "Key", "value: with: colons"));
    EXPECT_OK(natsConnection_PublishMsg(connection, sent));
    EXPECT_OK(natsSubscription_NextMsg(&received, subscription, WAIT_MS));
    EXPECT_OK(natsMsgHeader_Get(received, "Key", &value));
    EXPECT(strcmp(value, "value: with: colons") == 0);
    EXPECT(natsMsg_GetDataLength(received) == 4);
    natsMsg_Destroy(sent);
    natsMsg_Destroy(received);
    natsSubscription_Destroy(subscription);
}

static void count_message(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)connection;
    (void)subscription;
    ++*(int *)closure; /* one thread delivers all messages of a subscription */
    natsMsg_Destroy(message);
}

static void drain(natsConnection *connection) {
    natsSubscription *subscription = NULL;
    int count = 0;

    EXPECT_OK(natsConnection_Subscribe(&subscription, connection, "drain", count_message, &count));
    for (int i = 0; i < 500; i++)
        EXPECT_OK(natsConnection_PublishString(connection, "drain", "x"));
    EXPECT_OK(natsSubscription_Drain(subscription));
    EXPECT_OK(natsSubscription_WaitForDrainCompletion(subscription, WAIT_MS));
    EXPECT(count == 500);
    natsSubscription_Destroy(subscription);
}

/* Tells the main thread of an event in the library's thread. */
struct event {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool happened;
};

static void on_reconnect(natsConnection *connection, void *closure) {
    struct event *event = closure;

    (void)connection;
    pthread_mutex_lock(&event->lock);
    event->happened = true;
    pthread_cond_signal(&event->changed);
    pthread_mutex_unlock(&event->lock);
}

static void reconnect(const char *port) {
    struct event event = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    natsConnection *connection = connect_to(port, on_reconnect, &event);
    natsSubscription *plain = NULL, *member = NULL;

    EXPECT_OK(natsConnection_SubscribeSync(&plain, connection, "again"));
    EXPECT_OK(natsConnection_QueueSubscribeSync(&member, connection, "again", "g"));
    EXPECT_OK(natsConnection_Flush(connection));
    puts("restart");
    fflush(stdout);
    pthread_mutex_lock(&event.lock);
    while (!event.happened)
        pthread_cond_wait(&event.changed, &event.lock);
    pthread_mutex_unlock(&event.lock);
    EXPECT_OK(natsConnection_PublishString(connection, "again", "after the restart"));
    expect_text(plain, "after the restart");
    expect_text(member, "after the restart");
    natsSubscription_Destroy(plain);
    natsSubscription_Destroy(member);
    requests(connection, connection);
    natsConnection_Destroy(connection);
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    natsConnection *connection = connect_to(argv[1], NULL, NULL);
    natsConnection *other = connect_to(argv[1], NULL, NULL);

    publish_and_subscribe(connection);
    large_message(connection);
    requests(connection, other);
    queue_groups(connection, other);
    headers(connection);
    drain(connection);
    EXPECT_OK(natsConnection_Drain(other));
    natsConnection_Destroy(other);
    natsConnection_Destroy(connection);
    reconnect(argv[1]);
    nats_Close();
    puts("ok");
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* nats/proto.h: constants of the client protocol. Error texts are in nats/errors.h. */
#ifndef NATS_PROTO_H
#define NATS_PROTO_H

/* What INFO promises to clients: the level of the protocol, not Bulkhead's own version. */
#define PROTO_LEVEL_VERSION "2.9.10"
enum { PROTO_VERSION = 1 };

enum {
    PROTO_CONTROL_LINE_DEFAULT = 4096,
    PROTO_CONTROL_LINE_MAX = 60000, /* subject and reply must fit the 16-bit lengths of a record */
    PROTO_PAYLOAD_DEFAULT = 1 << 20,
    PROTO_PAYLOAD_MAX = 64 << 20,
    PROTO_SIZE_DIGITS_MAX = 9,
};

/* Sent to a requester when nobody is there to answer. */
#define PROTO_NO_RESPONDERS "NATS/1.0 503\r\n\r\n"

/* Reserved for the server's own replies; a client may not publish with them as reply (the two with a dot at the end:
 * only if something follows), nor to a subject below PROTO_GATEWAY_REPLY. */
#define PROTO_SERVICE_REPLY "_R_."
#define PROTO_GATEWAY_REPLY "_GR_."
#define PROTO_ACK_REPLY     "$JS.ACK."
/* The queue group that no client may join. */
#define PROTO_SYSTEM_QUEUE "_sys_"

#endif

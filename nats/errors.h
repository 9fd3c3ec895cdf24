/* SPDX-License-Identifier: Apache-2.0 */
/* nats/errors.h: every error text that a client can see, letter for letter: clients decide by these words whether to
 * reconnect. A text here stands between the quotes of -ERR '…'. */
#ifndef NATS_ERRORS_H
#define NATS_ERRORS_H

#define NATS_ERR_UNKNOWN_OP        "Unknown Protocol Operation"
#define NATS_ERR_AUTHORIZATION     "Authorization Violation"
#define NATS_ERR_AUTH_TIMEOUT      "Authentication Timeout"
#define NATS_ERR_AUTH_EXPIRED      "User Authentication Expired"
#define NATS_ERR_REVOKED           "User Authentication Revoked"
#define NATS_ERR_ACCOUNT_EXPIRED   "Account Authentication Expired"
#define NATS_ERR_MAX_CONNECTIONS   "maximum connections exceeded"
#define NATS_ERR_ACCOUNT_CONNS     "maximum account active connections exceeded"
#define NATS_ERR_THROTTLED         "Connection throttling is active. Please try again later."
#define NATS_ERR_CLIENT_PROTOCOL   "invalid client protocol"
#define NATS_ERR_NO_RESPONDERS     "no responders requires headers support"
#define NATS_ERR_CONTROL_LINE      "maximum control line exceeded"
#define NATS_ERR_PAYLOAD           "Maximum Payload Violation"
#define NATS_ERR_STALE             "Stale Connection"
#define NATS_ERR_TLS_REQUIRED      "Secure Connection - TLS Required"
#define NATS_ERR_REGISTRATION      "Failed Account Registration"
#define NATS_ERR_MAX_SUBSCRIPTIONS "maximum subscriptions exceeded"
#define NATS_ERR_SUBJECT           "Invalid Subject"
#define NATS_ERR_PUBLISH_SUBJECT   "Invalid Publish Subject"

/* Each %s is a quoted text of quote_text() without its outer quotes. */
#define NATS_ERR_DENY_PUBLISH     "Permissions Violation for Publish to \"%s\""
#define NATS_ERR_DENY_REPLY       "Permissions Violation for Publish with Reply of \"%s\""
#define NATS_ERR_DENY_SUB         "Permissions Violation for Subscription to \"%s\""
#define NATS_ERR_DENY_SUB_QUEUE   "Permissions Violation for Subscription to \"%s\" using queue \"%s\""
#define NATS_ERR_DENY_SUB_TOKENS  "Permissions Violation for Subscription to \"%s\", too many tokens"
#define NATS_ERR_DENY_SUB_REMOVED "Permissions Violation for Subscription to \"%s\" (sid \"%s\")"

#endif

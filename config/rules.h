/* SPDX-License-Identifier: Apache-2.0 */
/* config/rules.h: the rules that rows of the option table name, for options whose shape does not say it all. */
#ifndef CONFIG_RULES_H
#define CONFIG_RULES_H

#include "config/options.h"

/* The head of a rule. */
#define RULE(name)                                                                                                     \
    struct value *name(struct checker *c, const struct option *o, struct view key, struct value *v, struct value *out)

/* rules_values.c: single values */
option_rule rule_max32, rule_sub_tokens, rule_lame_duck_duration, rule_lame_duck_grace, rule_trace_verbose,
    rule_min_version, rule_credentials_file, rule_max_ack_pending, rule_jetstream, rule_cipher, rule_js_domains,
    rule_limits, rule_leaf_urls, rule_process_id, rule_sandbox, rule_store_dir, rule_migrate, rule_networks;

/* rules_auth.c: who may log in, and what they may do then */
option_rule rule_authorization, rule_peer_authorization, rule_leaf_authorization, rule_users, rule_permissions,
    rule_cluster_permissions, rule_side, rule_subjects, rule_responses, rule_connection_types;

/* rules_accounts.c: accounts and what they share */
option_rule rule_accounts, rule_account_key, rule_account_jetstream, rule_exports, rule_imports, rule_mappings,
    rule_latency, rule_response_type, rule_threshold, rule_import_from, rule_weight;

/* rules_tls.c: certificates */
option_rule rule_tls, rule_tls_peer, rule_ciphers, rule_curves, rule_pins, rule_handshake_first, rule_ocsp,
    rule_ocsp_mode;

/* The names that cipher_suites and curve_preferences know; NULL ends each. */
const char *const *tls_cipher_names(void);
const char *const *tls_curve_names(void);

/* rules_operator.c: operators, resolvers and their JWTs */
option_rule rule_operator, rule_resolver, rule_preload, rule_trusted;

#endif

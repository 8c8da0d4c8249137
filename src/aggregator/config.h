/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The aggregator's options: one table for command line, environment, --help and docs. */
#ifndef APERTURE_AGGREGATOR_CONFIG_H
#define APERTURE_AGGREGATOR_CONFIG_H

#include "core/error.h"
#include "core/options.h"
#include "rpc/rpc.h"
#include "storage/storage.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* Values of --storage. */
enum ap_storage_choice {
    AP_STORAGE_CHOICE_AUTO = 0, /* ClickHouse with an endpoint, else chDB, else memory */
    AP_STORAGE_CHOICE_MEMORY = 1,
    AP_STORAGE_CHOICE_CHDB = 2,
    AP_STORAGE_CHOICE_CLICKHOUSE = 3,
};

/* Longest "host:port", with terminator: a DNS name has at most 253 bytes. */
#define AP_LISTEN_SZ 280

struct ap_aggregator_config {
    const char *listen_text, *admin_listen_text; /* as given; NULL = not given */
    struct ap_rpc_tls tls;                       /* of both ports */
    const char *auth_token, *token_file;
    bool insecure;
    const char *ui_dir;

    uint32_t storage; /* enum ap_storage_choice */
    const char *data_dir_text;
    const char *chdb_library;
    const char *clickhouse_endpoint, *clickhouse_database, *clickhouse_user, *clickhouse_password;
    uint64_t memory_sz, buffer_sz, queue_sz;
    struct ap_option_list retention;

    bool print_schema;
    const char *cluster;
    uint64_t ready_fd; /* 0 = none */
    uint32_t log_level, log_format;

    /* derived */
    char listen[AP_LISTEN_SZ], admin_listen[AP_LISTEN_SZ];
    bool loopback_only;      /* because there is no token */
    char data_dir[PATH_MAX]; /* not made yet */
    uint64_t retention_ns[AP_CAPTURE_PROFILES_MAX], retention_1m_ns, retention_1h_ns;
};

extern const struct ap_options_spec ap_aggregator_options;

/* Parses and checks what the table cannot: addresses, retention, combinations. AP_OPTIONS_RUN, AP_OPTIONS_EXIT, or a
 * negative errno with words (a usage error). */
int ap_aggregator_config_parse(struct ap_aggregator_config *config, int argc, char **argv, struct ap_error *err);

void ap_aggregator_config_done(struct ap_aggregator_config *config);

/* The part of it that storage reads, for one kind of storage; points into `config`. */
struct ap_storage_opts ap_aggregator_storage_opts(const struct ap_aggregator_config *config, enum ap_storage_kind kind);

#endif

/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/config.h"

#include "aggregator/address.h"
#include "core/parse.h"
#include "model/selector.h"
#include "wire/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(member) offsetof(struct ap_aggregator_config, member)

#define GRPC_PORT "50051"
#define HTTP_PORT "9090"
#define DATA_DIR  "/var/lib/aperture"
/* Of --retention: shorter than an hour nothing would be left to ask for; ten years is past every disk. */
#define RETENTION_MIN_NS (3600ULL * 1000000000ULL)
#define RETENTION_MAX_NS (3650ULL * 24 * 3600 * 1000000000ULL)

static const char *const storages[] = {"auto", "memory", "chdb", "clickhouse", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

static const struct ap_option options[] = {
    {.type = AP_OPTION_GROUP, .help = "Where to listen"},
    {.name = "listen",
     .short_name = 'l',
     .type = AP_OPTION_STRING,
     .offset = FIELD(listen_text),
     .metavar = "ADDRESS",
     .env = "APERTURE_AGGREGATOR_LISTEN",
     .help = "Address of gRPC, as HOST:PORT or unix:/PATH. Default: 0.0.0.0:" GRPC_PORT ", without a token "
             "127.0.0.1:" GRPC_PORT "."},
    {.name = "admin-listen",
     .type = AP_OPTION_STRING,
     .offset = FIELD(admin_listen_text),
     .metavar = "ADDRESS",
     .env = "APERTURE_ADMIN_LISTEN",
     .help = "Address of HTTP (REST, dashboard, metrics). Default: 0.0.0.0:" HTTP_PORT ", without a token "
             "127.0.0.1:" HTTP_PORT "."},
    {.name = "ui-dir",
     .type = AP_OPTION_STRING,
     .offset = FIELD(ui_dir),
     .metavar = "DIRECTORY",
     .env = "APERTURE_UI_DIR",
     .help = "Files of the dashboard, served at /."},
    {.type = AP_OPTION_GROUP, .help = "Who may use it"},
    {.name = "auth-token",
     .type = AP_OPTION_STRING,
     .offset = FIELD(auth_token),
     .metavar = "TOKEN",
     .env = "APERTURE_AUTH_TOKEN",
     .help = "Bearer token that may read and write. Command lines are visible to other users: prefer the environment "
             "or --token-file."},
    {.name = "token-file",
     .type = AP_OPTION_STRING,
     .offset = FIELD(token_file),
     .metavar = "FILE",
     .env = "APERTURE_TOKEN_FILE",
     .help = "Tokens by line: TOKEN read|write [NAME]; # begins a comment; write includes read. Read again on SIGHUP. "
             "Other users must not be able to read it."},
    {.name = "insecure",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(insecure),
     .env = "APERTURE_INSECURE",
     .help = "Listen on the network without a token: everybody who can connect may read and write."},
    {.name = "tls-cert",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls.cert),
     .metavar = "FILE",
     .env = "APERTURE_TLS_CERT",
     .help = "Certificate chain (PEM) of both ports; with --tls-key. Without it both are plain text."},
    {.name = "tls-key",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls.key),
     .metavar = "FILE",
     .env = "APERTURE_TLS_KEY",
     .help = "Private key (PEM) of the certificate."},
    {.name = "tls-ca",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls.ca),
     .metavar = "FILE",
     .env = "APERTURE_TLS_CA",
     .help = "Authorities (PEM) that the certificates of clients must come from: mutual TLS on both ports."},
    {.type = AP_OPTION_GROUP, .help = "Where to store"},
    {.name = "storage",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(storage),
     .def = "auto",
     .choices = storages,
     .metavar = "KIND",
     .env = "APERTURE_STORAGE",
     .help = "memory, chdb (ClickHouse inside this process), clickhouse (a server), or auto: clickhouse when an "
             "endpoint is given, else chdb, else memory."},
    {.name = "data-dir",
     .type = AP_OPTION_STRING,
     .offset = FIELD(data_dir_text),
     .metavar = "DIRECTORY",
     .env = "APERTURE_DATA_DIR",
     .help = "Files of chdb, and the journal of commits. Default: " DATA_DIR ", or ~/.local/share/aperture for a user "
             "who cannot write there."},
    {.name = "clickhouse-endpoint",
     .type = AP_OPTION_STRING,
     .offset = FIELD(clickhouse_endpoint),
     .metavar = "URL",
     .env = "APERTURE_CLICKHOUSE_ENDPOINT",
     .help = "ClickHouse server, as http://HOST:8123 or https://HOST:8443."},
    {.name = "clickhouse-database",
     .type = AP_OPTION_STRING,
     .offset = FIELD(clickhouse_database),
     .def = "aperture",
     .metavar = "NAME",
     .env = "APERTURE_CLICKHOUSE_DATABASE",
     .help = "Database there; made when it is missing."},
    {.name = "clickhouse-user",
     .type = AP_OPTION_STRING,
     .offset = FIELD(clickhouse_user),
     .metavar = "NAME",
     .env = "APERTURE_CLICKHOUSE_USER",
     .help = "User there."},
    {.name = "clickhouse-password",
     .type = AP_OPTION_STRING,
     .offset = FIELD(clickhouse_password),
     .metavar = "PASSWORD",
     .env = "APERTURE_CLICKHOUSE_PASSWORD",
     .help = "Password there. Command lines are visible to other users: prefer the environment."},
    {.name = "retention",
     .type = AP_OPTION_LIST,
     .offset = FIELD(retention),
     .metavar = "KIND=TIME",
     .env = "APERTURE_RETENTION",
     .help = "How long to keep what: cpu, offcpu, lock, syscall, gpu (default 7d each), and the roll-ups 1m (30d) and "
             "1h (400d). As cpu=7d,lock=30d."},
    {.name = "memory-size",
     .type = AP_OPTION_SIZE,
     .offset = FIELD(memory_sz),
     .def = "512M",
     .min = 1 << 20,
     .max = 1ULL << 40,
     .metavar = "SIZE",
     .env = "APERTURE_MEMORY_SIZE",
     .help = "Most that --storage memory keeps; then the oldest batches go, counted."},
    {.name = "chdb-library",
     .type = AP_OPTION_STRING,
     .offset = FIELD(chdb_library),
     .metavar = "FILE",
     .env = "APERTURE_CHDB_LIBRARY",
     .help = "libchdb.so; without it the one beside the program is taken, or what the system finds."},
    {.name = "print-schema",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(print_schema),
     .help = "Print the statements that make the tables, and exit."},
    {.name = "cluster",
     .type = AP_OPTION_STRING,
     .offset = FIELD(cluster),
     .metavar = "NAME",
     .help = "With --print-schema: for a cluster of that name (replicated and distributed tables)."},
    {.type = AP_OPTION_GROUP, .help = "Memory"},
    {.name = "buffer-size",
     .type = AP_OPTION_SIZE,
     .offset = FIELD(buffer_sz),
     .def = "64M",
     .min = 1 << 20,
     .max = 1ULL << 36,
     .metavar = "SIZE",
     .env = "APERTURE_BUFFER_SIZE",
     .help = "Ring buffer with the newest batches, for queries and live views."},
    {.name = "queue-size",
     .type = AP_OPTION_SIZE,
     .offset = FIELD(queue_sz),
     .def = "256M",
     .min = 1 << 20,
     .max = 1ULL << 36,
     .metavar = "SIZE",
     .env = "APERTURE_QUEUE_SIZE",
     .help = "Batches that wait to be stored; past it agents are told to come again later."},
    {.type = AP_OPTION_GROUP, .help = "Diagnosis"},
    {.name = "ready-fd",
     .type = AP_OPTION_U64,
     .offset = FIELD(ready_fd),
     .min = 3,
     .max = 1048576,
     .metavar = "FD",
     .help = "Write one byte to this descriptor when both ports listen (for programs that start the aggregator)."},
    {.name = "log-level",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(log_level),
     .def = "info",
     .choices = log_levels,
     .metavar = "LEVEL",
     .env = "APERTURE_LOG_LEVEL",
     .help = "Least important message shown on standard error."},
    {.name = "log-format",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(log_format),
     .def = "text",
     .choices = log_formats,
     .metavar = "FORMAT",
     .env = "APERTURE_LOG_FORMAT",
     .help = "Messages as text, or as one JSON object a line."},
    {0},
};

const struct ap_options_spec ap_aggregator_options = {
    .program = "aperture-aggregator",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Receives what agents record, stores it, and answers questions about it over gRPC and HTTP.",
    .epilog = "Examples:\n"
              "  aperture-aggregator\n"
              "  aperture-aggregator --storage memory --memory-size 2G\n"
              "  APERTURE_AUTH_TOKEN=... aperture-aggregator --tls-cert cert.pem --tls-key key.pem\n"
              "  APERTURE_CLICKHOUSE_ENDPOINT=http://127.0.0.1:8123 aperture-aggregator --retention cpu=14d,1h=2000d\n"
              "  aperture-aggregator --print-schema --cluster main\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage. SIGHUP reads --token-file again; SIGTERM and SIGINT end\n"
              "after what is in progress, at most 5 s, a second one at once.",
    .options = options,
};

/* ---- Addresses ---------------------------------------------------------------------------------------------------
 */

/* Decides one address: the given one must be this machine's own unless there is a token. */
static int choose_listen(struct ap_aggregator_config *config, const char *given, const char *name, const char *port,
                         char ret[AP_LISTEN_SZ], struct ap_error *err)
{
    bool open = !config->auth_token && !config->token_file && !config->insecure;
    enum ap_address_scope scope;
    int rc;

    if (!given) {
        snprintf(ret, AP_LISTEN_SZ, "%s:%s", open ? "127.0.0.1" : "0.0.0.0", port);
        config->loopback_only |= open;
        return 0;
    }
    if (strlen(given) >= AP_LISTEN_SZ)
        return ap_error_set(err, -EINVAL, "--%s: longer than %d bytes", name, AP_LISTEN_SZ - 1);
    rc = ap_address_scope(given, &scope, err);
    if (rc) {
        ap_error_prefix(err, "--%s", name);
        return rc;
    }
    if (open && scope == AP_ADDRESS_NETWORK)
        return ap_error_set(err, -EINVAL,
                            "--%s %s: without a token only this machine's own addresses may be used (127.0.0.1): "
                            "give --auth-token or --token-file, or --insecure to let everybody in",
                            name, given);
    snprintf(ret, AP_LISTEN_SZ, "%s", given);
    return 0;
}

static int choose_addresses(struct ap_aggregator_config *config, struct ap_error *err)
{
    int rc = choose_listen(config, config->listen_text, "listen", GRPC_PORT, config->listen, err);

    if (!rc)
        rc = choose_listen(config, config->admin_listen_text, "admin-listen", HTTP_PORT, config->admin_listen, err);
    if (!rc && !strncmp(config->admin_listen, "unix:", 5))
        rc = ap_error_set(err, -EINVAL, "--admin-listen %s: HTTP listens on HOST:PORT only", config->admin_listen);
    return rc;
}

static int check_tls(const struct ap_rpc_tls *tls, struct ap_error *err)
{
    if (!tls->cert != !tls->key)
        return ap_error_set(err, -EINVAL, "--tls-cert and --tls-key belong together: --tls-%s is missing",
                            tls->cert ? "key" : "cert");
    if (tls->ca && !tls->cert)
        return ap_error_set(err, -EINVAL, "--tls-ca needs --tls-cert and --tls-key");
    return 0;
}

/* ---- Storage -----------------------------------------------------------------------------------------------------
 */

/* Takes "KIND=TIME". */
static int set_retention(struct ap_aggregator_config *config, const char *item, struct ap_error *err)
{
    const char *equals = strchr(item, '=');
    uint64_t *field, value;
    char name[16];
    uint8_t kind;
    int rc;

    if (!equals || equals == item || (size_t)(equals - item) >= sizeof(name))
        return ap_error_set(err, -EINVAL, "\"%s\" is not understood: write KIND=TIME, as cpu=7d", item);
    memcpy(name, item, (size_t)(equals - item));
    name[equals - item] = '\0';

    if (!strcmp(name, "1m")) {
        field = &config->retention_1m_ns;
    } else if (!strcmp(name, "1h")) {
        field = &config->retention_1h_ns;
    } else {
        if (ap_selector_kind(name, &kind, NULL) || !kind || kind >= AP_CAPTURE_PROFILES_MAX)
            return ap_error_set(err, -EINVAL, "\"%s\" is no kind: use cpu, offcpu, lock, syscall, gpu, 1m or 1h", name);
        field = &config->retention_ns[kind];
    }
    rc = ap_parse_duration(equals + 1, &value, err);
    if (rc)
        return rc;
    if (value < RETENTION_MIN_NS || value > RETENTION_MAX_NS)
        return ap_error_set(err, -ERANGE, "%s: accepted is 1h to 3650d", item);
    *field = value;
    return 0;
}

static int parse_retention(struct ap_aggregator_config *config, struct ap_error *err)
{
    size_t i;
    int rc;

    for (i = 0; i < config->retention.cnt; i++) {
        rc = set_retention(config, config->retention.items[i], err);
        if (rc) {
            ap_error_prefix(err, "--retention");
            return rc;
        }
    }
    return 0;
}

static bool writable(const char *dir)
{
    char parent[PATH_MAX];
    char *slash;

    if (!eaccess(dir, F_OK))
        return !eaccess(dir, W_OK | X_OK);
    snprintf(parent, sizeof(parent), "%s", dir);
    slash = strrchr(parent, '/');
    if (!slash || slash == parent)
        return false;
    *slash = '\0';
    return !eaccess(parent, W_OK | X_OK);
}

static int choose_data_dir(struct ap_aggregator_config *config, struct ap_error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int len;

    if (config->data_dir_text)
        len = snprintf(config->data_dir, sizeof(config->data_dir), "%s", config->data_dir_text);
    else if (geteuid() == 0 || writable(DATA_DIR))
        len = snprintf(config->data_dir, sizeof(config->data_dir), "%s", DATA_DIR);
    else if (data && *data == '/')
        len = snprintf(config->data_dir, sizeof(config->data_dir), "%s/aperture", data);
    else if (home && *home == '/')
        len = snprintf(config->data_dir, sizeof(config->data_dir), "%s/.local/share/aperture", home);
    else /* storage will say that it cannot write there */
        len = snprintf(config->data_dir, sizeof(config->data_dir), "%s", DATA_DIR);
    if (len < 0 || (size_t)len >= sizeof(config->data_dir))
        return ap_error_set(err, -EINVAL, "--data-dir: the path is too long");
    return 0;
}

static int check_storage(const struct ap_aggregator_config *config, struct ap_error *err)
{
    const char *endpoint = config->clickhouse_endpoint;

    if (config->storage == AP_STORAGE_CHOICE_CLICKHOUSE && !endpoint)
        return ap_error_set(err, -EINVAL,
                            "--storage clickhouse needs --clickhouse-endpoint (or APERTURE_CLICKHOUSE_ENDPOINT), as "
                            "http://127.0.0.1:8123");
    if (endpoint && strncmp(endpoint, "http://", 7) && strncmp(endpoint, "https://", 8))
        return ap_error_set(err, -EINVAL, "--clickhouse-endpoint %s: write http://HOST:8123 or https://HOST:8443",
                            endpoint);
    if (config->cluster && !config->print_schema)
        return ap_error_set(err, -EINVAL, "--cluster goes with --print-schema");
    return 0;
}

/* An empty text is an option that was not given: a compose file sets variables to "". */
static void drop_empty(const char **text)
{
    if (*text && !**text)
        *text = NULL;
}

int ap_aggregator_config_parse(struct ap_aggregator_config *config, int argc, char **argv, struct ap_error *err)
{
    int rc;

    rc = ap_options_parse(&ap_aggregator_options, config, sizeof(*config), argc, argv, NULL, err);
    if (rc)
        return rc;
    drop_empty(&config->listen_text);
    drop_empty(&config->admin_listen_text);
    drop_empty(&config->auth_token);
    drop_empty(&config->token_file);
    drop_empty(&config->data_dir_text);
    rc = choose_addresses(config, err);
    if (!rc)
        rc = check_tls(&config->tls, err);
    if (!rc)
        rc = parse_retention(config, err);
    if (!rc)
        rc = choose_data_dir(config, err);
    if (!rc)
        rc = check_storage(config, err);
    if (rc)
        ap_aggregator_config_done(config);
    return rc ? rc : AP_OPTIONS_RUN;
}

void ap_aggregator_config_done(struct ap_aggregator_config *config)
{
    ap_options_done(&ap_aggregator_options, config);
}

struct ap_storage_opts ap_aggregator_storage_opts(const struct ap_aggregator_config *config, enum ap_storage_kind kind)
{
    struct ap_storage_opts opts = {
        .kind = kind,
        .data_dir = config->data_dir,
        .chdb_library = config->chdb_library,
        .endpoint = config->clickhouse_endpoint,
        .database = config->clickhouse_database,
        .user = config->clickhouse_user,
        .password = config->clickhouse_password,
        .memory_sz = config->memory_sz,
        .retention_1m_ns = config->retention_1m_ns,
        .retention_1h_ns = config->retention_1h_ns,
        .decode = ap_wire_batch_decode,
    };

    memcpy(opts.retention_ns, config->retention_ns, sizeof(opts.retention_ns));
    return opts;
}
